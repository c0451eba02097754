"""How does a model's own chat template lay out turns? It gets the texts, as transformers gives them to it.

What it makes of them is the same prompt, character by character. But a special token's name becomes that token only
where the template wrote it (`traced.py`); in what a user said it stays text. Where nobody can tell, that is an error.
A template is asked about conversations that wait for a reply only. The past of one that does not is what every
continuation of it begins with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.text.tokenizer import Tokenizer

from .template_budget import SOURCE_CHARACTERS, begin
from .traced import OURS, UNKNOWN, Traced, message_origin
from .turns import Dialogue, Layout, Piece, Special, Turn

_FILE, _SETTINGS, _TOKENS = "chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"
_REASON_CHARACTERS = 120
_SAFE_JINJA = (3, 1, 6)  # the first without a known way out of its sandbox
# DialoGPT's own template, which needs no jinja: each content, then end-of-text.
_DIALOGPT = re.compile(
    r"\{%-?\s*for message in messages\s*-?%\}\{\{-?\s*message(\.content|\[['\"]content['\"]\])\s*"
    r"(\+\s*|-?\}\}\{\{-?\s*)eos_token\s*-?\}\}\{%-?\s*endfor\s*-?%\}"
)


@dataclass(frozen=True)
class Template:
    """A template's source, the file that it is from, and the special tokens that it may name, such as eos_token."""

    source: str
    file: Path
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def is_dialogpt(self) -> bool:
        """Does it say what the format `dialogpt` says?"""
        return len(self.source) < 500 and _DIALOGPT.fullmatch(self.source.strip()) is not None

    def error(self, what: str, reason: object) -> ValueError:
        """One sentence that names the template."""
        said = " ".join(str(reason).split()).split(". ")[0].rstrip(".") or type(reason).__name__
        if len(said) > _REASON_CHARACTERS:
            said = said[:_REASON_CHARACTERS] + "…"
        return ValueError(
            f"expected a prompt from the chat template in {self.file}, found that it {what} ({said}); "
            "name another chat_format"
        )


def read_template(folder: Path) -> Template | None:
    """The chat template in a model's folder, if there is one. ValueError for one that is too long or no text."""
    settings = _object(folder / _TOKENS) | _object(folder / _SETTINGS)
    source, file = settings.get("chat_template"), folder / _SETTINGS
    if isinstance(source, list):  # several, by name
        named = {str(item.get("name")): item.get("template") for item in source if isinstance(item, dict)}
        source = named.get("default")
    if (folder / _FILE).is_file():
        file = folder / _FILE
        with file.open("rb") as opened:
            content = opened.read(4 * SOURCE_CHARACTERS + 1)
        try:
            source = content.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise Template("", file).error("is broken", error) from None
    if not isinstance(source, str):
        return None
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in settings.items()}
    tokens = {key: text for key, text in texts.items() if key.endswith("_token") and isinstance(text, str)}
    template = Template(source, file, tokens)
    if len(source) > SOURCE_CHARACTERS:
        raise template.error("is broken", f"it has more than {SOURCE_CHARACTERS} characters")
    return template


def _object(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def template_layout(folder: Path, tokenizer: Tokenizer) -> Layout:
    """The layout that the folder's template describes. ValueError without a template, jinja2 or good syntax."""
    template = read_template(folder)
    if template is None:
        raise ValueError(
            f"expected a chat_template in {_SETTINGS} for chat_format 'template', found none; name another chat_format"
        )
    try:
        import jinja2

        if tuple(int(part) for part in jinja2.__version__.split(".")[:3]) < _SAFE_JINJA:
            raise ImportError
        from .template_language import Language, prompt_of
    except ImportError:
        raise ValueError(
            "expected jinja2 from version 3.1.6 on for this model's chat template, found none; "
            "pip install 'dialocpp[template]' or name another chat_format"
        ) from None
    begin()
    try:
        compiled = Language().from_string(template.source)
    except Exception as error:  # jinja's and Python's compilers have errors of many kinds
        raise template.error("is broken", error) from None
    names = _Names(tokenizer)
    own = {"eos_token": tokenizer.decode([tokenizer.eos_token_id])} | template.tokens
    tokens = {name: Traced(text, OURS) for name, text in own.items()}

    def laid_out(dialogue: Dialogue) -> list[Piece]:
        begin()
        try:
            prompt = prompt_of(
                compiled,
                messages=_messages(dialogue),
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **tokens,
            )
        except Exception as error:  # a template is a program of its own, with errors of its own
            raise template.error("failed", error) from None
        last = dialogue.turns[-1].content
        if names.doubtful(prompt):
            raise template.error("failed", "it builds a special token's name of texts whose origin cannot be told")
        if message_origin(len(dialogue.turns)) not in prompt.origin and last.strip() not in prompt:
            raise template.error("failed", "it leaves the message out, or changes it beyond recognition")
        return list(names.pieces(prompt, dialogue.turns))

    def layout(dialogue: Dialogue) -> Iterator[Piece]:
        if dialogue.asks:
            yield from laid_out(dialogue)
            return
        one, other = (
            laid_out(Dialogue((*dialogue.turns, Turn("user", text, ())), dialogue.persona, dialogue.eos_token_id))
            for text in ("A", "B")
        )
        for piece, twin in zip(one, other, strict=False):
            if piece != twin or type(piece) is not type(twin):
                return
            yield piece

    layout.__name__ = "template"
    return layout


def _messages(dialogue: Dialogue) -> list[dict[str, Any]]:
    """The persona's lines are one system message. Origins count from the persona, 0, on."""
    persona = "\n".join(line.content for line in dialogue.persona)
    said = [("system", persona, 0)] if dialogue.persona else []
    said += [(turn.role, turn.content, index) for index, turn in enumerate(dialogue.turns, 1)]
    return [
        {Traced("role", OURS): Traced(role, OURS), Traced("content", OURS): Traced(text, message_origin(index))}
        for role, text, index in said
    ]


class _Names:
    """The names of a tokenizer's special tokens, as found in what a template says."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        parts = []
        named = {tokenizer.decode([token]): token for token in tokenizer.special_token_ids}
        for name, token in sorted(named.items(), key=lambda item: -len(item[0])):
            if not name:
                continue
            part = re.escape(name)
            # As the tokenizer's own flags have it: alone only, and with the spaces before or after it.
            if token not in tokenizer.encode(f"a{name}a", special_tokens=True):
                part = rf"(?<!\w){part}(?!\w)"
            before, after = (tokenizer.encode(text, special_tokens=True) for text in (f" {name}", f"{name} "))
            parts.append((r"\s*" if before == [token] else "") + part + (r"\s*" if after == [token] else ""))
        self._pattern = re.compile("|".join(parts)) if parts else re.compile("(?!)")

    def doubtful(self, prompt: Traced) -> bool:
        """Whether a name is made of characters of which some may be a message's and none is known to be."""
        return UNKNOWN in prompt.origin and any(
            UNKNOWN in prompt.origin[first:end] for first, end in self._found(prompt, f"[{OURS}{UNKNOWN}]+")
        )

    def pieces(self, prompt: Traced, turns: Sequence[Turn]) -> Iterator[Piece]:
        """Special tokens where the template wrote them, the assistant's turns as their own ids, all else as text."""
        cuts: list[tuple[int, int, Piece]] = [
            (first, end, Special(str.__getitem__(prompt, slice(first, end))))
            for first, end in self._found(prompt, f"{OURS}+")
        ]
        for index, turn in enumerate(turns, 1):
            if turn.role == "assistant" and turn.content:
                runs = re.finditer(f"{re.escape(message_origin(index))}+", prompt.origin)
                cuts += [(*run.span(), turn) for run in runs if turn.content == prompt[run.start() : run.end()]]
        end = 0
        for first, after, piece in sorted(cuts, key=lambda cut: cut[:2]):
            if end < first:
                yield str.__getitem__(prompt, slice(end, first))
            yield piece
            end = after
        if end < len(prompt):
            yield str.__getitem__(prompt, slice(end, None))

    def _found(self, prompt: Traced, runs: str) -> Iterator[tuple[int, int]]:
        """Begin and end of each name within the runs of characters of these origins."""
        for run in re.finditer(runs, prompt.origin):
            for match in self._pattern.finditer(str.__getitem__(prompt, slice(*run.span()))):
                yield run.start() + match.start(), run.start() + match.end()
