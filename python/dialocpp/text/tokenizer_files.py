"""Which tokenizer do a checkpoint's files describe, which of its tokens are special, and which end a reply?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from dialocpp.checkpoint.files import (
    BERT_VOCAB,
    CONFIG,
    GENERATION_CONFIG,
    MERGES,
    SENTENCEPIECE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCAB,
)
from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.checkpoint.regular_file import read_text
from dialocpp.errors import CheckpointError

from .added_tokens import NAMED, Settings, add_to, read_settings
from .bpe_tables import read_bpe
from .tokenizers_errors import guarded

END_OF_TEXT = "<|endoftext|>"
_GPT2_DEFAULTS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
# What a tokenizer must be able to take apart and put together again before it is believed to work.
_PROBE = "Hello, world! 123\n\té ﬁ ǅ 你好 が か\u3099 ｶﾞ \u200b😀 " + "a" * 64


class TokenizerFiles(NamedTuple):
    """What the files say. `ends`: the ids that end a reply; `named`: those that they call bos, eos, pad and so on."""

    tokenizer: Tokenizer
    eos_token_id: int
    clean_up_spaces: bool
    ends: tuple[int, ...]
    named: frozenset[int]


def read_tokenizer(folder: Path, fallback_eos: Sequence[int] = (), rows: int | None = None) -> TokenizerFiles:
    """The tokenizer of a folder; CheckpointError if the files are broken.

    Every token that the files call special is one, whatever tokenizer.json says of it. `fallback_eos`: config.json's
    ids, if the tokenizer names none that is below `rows`, the number of the model's rows.
    """
    settings = read_settings(folder)
    tokenizer, defaults, own_names = _tokenizer(folder, settings.values)
    add_to(tokenizer, settings, defaults)
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in settings.values:
        tokenizer.pre_tokenizer.add_prefix_space = bool(settings.values["add_prefix_space"])
    _without_training_aids(tokenizer)
    guarded(CheckpointError, f"a tokenizer in {folder} that works", "download it again", _try_out, tokenizer)
    eos = _eos(folder, tokenizer, settings, fallback_eos, rows)
    by_config = _ids_of(folder, NAMED)
    names = [token.content for token in settings.special(defaults)] + settings.also_named() + list(own_names)
    in_files = {id_ for id_ in map(tokenizer.token_to_id, names) if id_ is not None}
    named = frozenset(in_files | {eos, *fallback_eos, *by_config})
    _make_special(tokenizer, in_files | {id_ for id_ in named if not _is_spelled(tokenizer, id_)}, eos)
    ends = [eos, *fallback_eos, *_ids_of(folder, ("eos_token",))]
    known = [id_ for id_ in dict.fromkeys(ends) if tokenizer.id_to_token(id_) is not None]
    return TokenizerFiles(
        tokenizer, eos, settings.values.get("clean_up_tokenization_spaces") is True, tuple(known), named
    )


def _tokenizer(folder: Path, settings: dict[str, Any]) -> tuple[Tokenizer, dict[str, str], Sequence[str]]:
    """The tokenizer of the first of TOKENIZERS that is there, its kind's named tokens, and other special ones."""
    if (folder / TOKENIZER).is_file():
        tokenizer = _from_json(folder / TOKENIZER)
        return tokenizer, _GPT2_DEFAULTS if _is_gpt2(tokenizer, settings) else {}, ()
    if (folder / VOCAB).is_file() or (folder / MERGES).is_file():
        return _byte_level(folder), _GPT2_DEFAULTS, ()
    if (folder / BERT_VOCAB).is_file():
        from .bert import BERT_DEFAULTS, bert_tokenizer  # here, as below: few models need it

        return bert_tokenizer(folder / BERT_VOCAB, settings), BERT_DEFAULTS, ()
    if (folder / SENTENCEPIECE).is_file():
        lowercase = settings.get("do_lower_case") is True
        from .sentencepiece import sentencepiece_tokenizer

        tokenizer, controls = sentencepiece_tokenizer(folder / SENTENCEPIECE, lowercase)
        return tokenizer, {}, controls
    return _byte_level(folder), {}, ()  # says what is missing


def _is_gpt2(tokenizer: Tokenizer, settings: dict[str, Any]) -> bool:
    """Would transformers take this for a GPT2Tokenizer, which has named tokens that no file need name?"""
    kind = settings.get("tokenizer_class")
    by_class = kind is None or (isinstance(kind, str) and kind.startswith("GPT2Tokenizer"))
    return by_class and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)


def _from_json(path: Path) -> Tokenizer:
    tokenizer: Tokenizer = guarded(
        CheckpointError, f"a tokenizer in {path}", "download it again", Tokenizer.from_str, read_text(path)
    )
    return tokenizer


def _byte_level(folder: Path) -> Tokenizer:
    """GPT-2's byte-level BPE from vocab.json and merges.txt."""
    missing = [name for name in (VOCAB, MERGES) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: expected {TOKENIZER}, {VOCAB} and {MERGES}, {BERT_VOCAB} or {SENTENCEPIECE}, "
            f"found no {' and no '.join(missing)}; "
            "add the tokenizer's files to the folder"
        )
    tokenizer = Tokenizer(read_bpe(folder / VOCAB, folder / MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _without_training_aids(tokenizer: Tokenizer) -> None:
    """A tokenizer.json may carry what its training needed: that would cut, pad or scramble prompts silently."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if isinstance(tokenizer.model, models.BPE):
        tokenizer.model.dropout = None


def _make_special(tokenizer: Tokenizer, ids: set[int], eos: int) -> None:
    """Flag these tokens as special, so that none is recognised in a text; each keeps its other flags.

    Not the only spelling of a character, such as the "!" that a careless `pad_token` of id 0 names: it stays text,
    unless it ends a turn.
    """
    known = tokenizer.get_added_tokens_decoder()
    special = []
    for id_ in sorted(ids):
        text = tokenizer.id_to_token(id_)
        if text is None or (id_ != eos and is_character(tokenizer, id_)):
            continue
        flags = known.get(id_, AddedToken(text, normalized=False)).__getstate__()
        special.append(AddedToken(**{**flags, "special": True}))
    tokenizer.add_special_tokens(special)
    tokenizer.encode_special_tokens = True


def is_character(tokenizer: Tokenizer, token: int) -> bool:
    """Does the vocabulary, without its added tokens, spell one character, or a byte of one, with this token alone?"""
    return tokenizer.model.id_to_token(token) is not None and len(tokenizer.decode([token], False)) == 1


def _is_spelled(tokenizer: Tokenizer, token: int) -> bool:
    """Is this token an ordinary piece of text, which its own text gives?"""
    if tokenizer.id_to_token(token) is None or token in tokenizer.get_added_tokens_decoder():
        return False
    return tokenizer.encode(tokenizer.decode([token]), add_special_tokens=False).ids == [token]


def _try_out(tokenizer: Tokenizer) -> None:
    tokenizer.decode(tokenizer.encode(_PROBE, add_special_tokens=False).ids)


def _ids_of(folder: Path, names: Sequence[str]) -> Iterator[int]:
    """The ids that config.json and generation_config.json give to these tokens."""
    for file in (CONFIG, GENERATION_CONFIG):
        values = read_json_object(folder / file) if (folder / file).is_file() else {}
        for name in names:
            found = values.get(f"{name}_id")
            for id_ in found if isinstance(found, list) else [found]:
                if type(id_) is int and 0 <= id_ < 2**31:
                    yield id_


def _eos(
    folder: Path, tokenizer: Tokenizer, settings: Settings, fallback_eos: Sequence[int], rows: int | None
) -> int:
    """The settings' eos_token, config.json's, GPT-2's own, the separator, BERT's: the first that there is."""
    eos, separator = settings.name("eos_token"), settings.name("sep_token")
    ids = [tokenizer.token_to_id(eos)] if eos else []
    ids += [token for token in fallback_eos if tokenizer.id_to_token(token) is not None]
    ids += [tokenizer.token_to_id(name) for name in (END_OF_TEXT, separator, "</s>", "[SEP]") if name]
    found = next((token for token in ids if token is not None and (rows is None or token < rows)), None)
    if found is None:
        raise CheckpointError(
            f"{folder}: expected an eos_token of the vocabulary in {TOKENIZER_CONFIG}, found none; name one"
        )
    return found
