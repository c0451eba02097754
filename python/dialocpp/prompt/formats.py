"""Which chat formats are known, and how does each lay out its turns? One function and one row for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dialocpp.text.tokenizer import Tokenizer

from .chat_format import ChatFormat
from .chat_template import read_template, template_layout
from .turns import Dialogue, Layout, Piece, Special

_REPLY_LENGTH = "1"  # what rudialogpt's own service asks for: short


def dialogpt(dialogue: Dialogue) -> Iterator[Piece]:
    """turn, end-of-text, turn, end-of-text, …; persona lines are turns that never leave (arXiv:1911.00536)."""
    for turn in (*dialogue.persona, *dialogue.turns):
        yield turn
        yield dialogue.eos_token_id


def gpt2_chitchat(dialogue: Dialogue) -> Iterator[Piece]:
    """[CLS] turn [SEP] turn [SEP] … (yangjianxin1/GPT2-chitchat, preprocess.py and interact.py)."""
    yield Special("[CLS]")
    for turn in (*dialogue.persona, *dialogue.turns):
        yield turn
        yield Special("[SEP]")


def rudialogpt(dialogue: Dialogue) -> Iterator[Piece]:
    """|speaker|length|turn, end-of-text, …, then |1|1| (Grossmend/rudialogpt3_medium_based_on_gpt2's card).

    The marks are ordinary text there, so a user's bar is written as a slash: it would pass for another speaker.
    """
    for turn in (*dialogue.persona, *dialogue.turns):
        if turn.role == "user":
            yield f"|0|{_length_code(len(turn.token_ids))}|"
            yield turn.content.replace("|", "/") if "|" in turn.content else turn
        else:
            yield f"|1|{_REPLY_LENGTH}|"
            yield turn
        yield dialogue.eos_token_id
    if dialogue.asks:
        yield f"|1|{_REPLY_LENGTH}|"


def _length_code(tokens: int) -> str:
    return next((code for code, limit in (("1", 15), ("2", 50), ("3", 256)) if tokens <= limit), "-")


def personagpt(dialogue: Dialogue) -> Iterator[Piece]:
    """<|p2|> fact, end-of-text, … <|sep|> <|start|>, then DialoGPT's turns (af1tang/personaGPT's card)."""
    yield Special("<|p2|>")
    for fact in dialogue.persona:
        yield fact
        yield dialogue.eos_token_id
    yield Special("<|sep|>")
    yield Special("<|start|>")
    for turn in dialogue.turns:
        yield turn
        yield dialogue.eos_token_id


@dataclass(frozen=True)
class Format:
    """A row of the table: the layout, the special tokens that it needs, and those of them that end a reply."""

    help: str
    layout: Layout
    special_tokens: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


FORMATS = {
    "dialogpt": Format("turns with end-of-text after each", dialogpt),
    "gpt2-chitchat": Format("Chinese GPT2-chitchat", gpt2_chitchat, ("[CLS]", "[SEP]"), ("[SEP]",)),
    "rudialogpt": Format("Russian rudialogpt3", rudialogpt),
    "personagpt": Format("personaGPT: facts before the turns", personagpt, ("<|p2|>", "<|sep|>", "<|start|>")),
}
# Beside these rows: the model's own template, and the choice by what the model's files say.
TEMPLATE, AUTO = "template", "auto"


def resolve_format(
    wanted: str | Layout, tokenizer: Tokenizer, folder: Path, name: str, persona: Sequence[str] = ()
) -> ChatFormat:
    """The format of that name, of the model's template, or of a user's function.

    `auto` takes one of FORMATS where the model's files or name leave no doubt, the model's chat template if it has one,
    and DialoGPT's format otherwise. ValueError for an unknown name, a tokenizer that lacks what the format needs, or
    a template without jinja2.
    """
    if callable(wanted):
        return ChatFormat(getattr(wanted, "__name__", "function"), wanted, tokenizer, persona)
    if wanted == AUTO:
        wanted = _recognised(tokenizer, folder, name)
    if wanted == TEMPLATE:
        return ChatFormat(TEMPLATE, template_layout(folder, tokenizer), tokenizer, persona)
    row = FORMATS.get(wanted)
    if row is None:
        known = ", ".join((AUTO, *FORMATS, TEMPLATE))
        raise ValueError(f"expected chat_format to be one of {known}, or a function, found {wanted!r}; name one")
    missing = [token for token in row.special_tokens if _special_id(tokenizer, token) is None]
    if missing:
        raise ValueError(
            f"expected the special token {missing[0]} for chat_format {wanted!r}, found a tokenizer without it; "
            "name another chat_format"
        )
    ends = [id_ for token in row.ends if (id_ := _special_id(tokenizer, token)) is not None]
    return ChatFormat(wanted, row.layout, tokenizer, persona, ends)


def _recognised(tokenizer: Tokenizer, folder: Path, name: str) -> str:
    if "rudialogpt" in name.lower():
        return "rudialogpt"  # its marks are ordinary text: nothing in its files tells
    if all(_special_id(tokenizer, token) is not None for token in FORMATS["personagpt"].special_tokens):
        return "personagpt"
    sep = _special_id(tokenizer, "[SEP]")
    if sep is not None and sep == tokenizer.eos_token_id and _special_id(tokenizer, "[CLS]") is not None:
        return "gpt2-chitchat"
    template = read_template(folder)
    return "dialogpt" if template is None or template.is_dialogpt else TEMPLATE


def _special_id(tokenizer: Tokenizer, name: str) -> int | None:
    ids = tokenizer.encode(name, special_tokens=True)
    return ids[0] if len(ids) == 1 and ids[0] in tokenizer.special_token_ids else None
