"""Which tokenizer do a checkpoint's files describe, and which of its tokens are special?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers

from dialocpp.checkpoint.files import (
    ADDED_TOKENS,
    BERT_VOCAB,
    MERGES,
    SENTENCEPIECE,
    SPECIAL_TOKENS_MAP,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCAB,
)
from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.checkpoint.regular_file import read_text
from dialocpp.errors import CheckpointError

from .bert import BERT_SPECIALS, bert_tokenizer
from .bpe_tables import read_bpe
from .sentencepiece import sentencepiece_tokenizer

END_OF_TEXT = "<|endoftext|>"
_SPECIAL_KEYS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerFiles(NamedTuple):
    """What the files say: the tokenizer, the id that ends a turn, and whether decoding tidies up spaces."""

    tokenizer: Tokenizer
    eos_token_id: int
    clean_up_spaces: bool


def read_tokenizer(folder: Path, fallback_eos: Sequence[int] = ()) -> TokenizerFiles:
    """The tokenizer of a folder; CheckpointError if the files are broken.

    Every token that the files call special is one, whatever tokenizer.json says of it, and none is recognised
    in a text (`encode_special_tokens`). `fallback_eos`: config.json's ids, if the tokenizer names none.
    """
    settings, specials = _optional(folder / TOKENIZER_CONFIG), _optional(folder / SPECIAL_TOKENS_MAP)
    names = _special_names(settings) | _special_names(specials)
    tokenizer, own_names = _tokenizer(folder, settings)
    names |= dict.fromkeys(own_names)
    known = [name for name in names if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in known])
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in settings:
        tokenizer.pre_tokenizer.add_prefix_space = bool(settings["add_prefix_space"])
    # A tokenizer.json may carry the truncation and padding of its training: that would cut prompts silently.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    eos = _eos(folder, tokenizer, (settings, specials), fallback_eos)
    return TokenizerFiles(tokenizer, eos, settings.get("clean_up_tokenization_spaces") is True)


def _tokenizer(folder: Path, settings: dict[str, Any]) -> tuple[Tokenizer, Sequence[str]]:
    """The tokenizer of the first of TOKENIZERS that is there, and the special tokens of its kind."""
    if (folder / TOKENIZER).is_file():
        return _from_json(folder / TOKENIZER), ()
    tokenizer, names = _from_tables(folder, settings)
    for token_id, token in sorted(_added_tokens(folder, settings).items()):
        _add(folder, tokenizer, token_id, token)
    return tokenizer, names


def _from_tables(folder: Path, settings: dict[str, Any]) -> tuple[Tokenizer, Sequence[str]]:
    if (folder / VOCAB).is_file() or (folder / MERGES).is_file():
        return _byte_level(folder), (END_OF_TEXT,)
    if (folder / BERT_VOCAB).is_file():
        return bert_tokenizer(folder / BERT_VOCAB, settings), BERT_SPECIALS
    if (folder / SENTENCEPIECE).is_file():
        lowercase = settings.get("do_lower_case") is True
        return sentencepiece_tokenizer(folder / SENTENCEPIECE, lowercase)
    return _byte_level(folder), ()  # says what is missing


def _optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _content(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content and flags."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _special_names(settings: dict[str, Any]) -> dict[str, None]:
    """The special tokens' texts, in order (a dict serves as an ordered set)."""
    extra = settings.get("additional_special_tokens")
    tokens = [settings.get(key) for key in _SPECIAL_KEYS] + (extra if isinstance(extra, list) else [])
    return {name: None for name in map(_content, tokens) if name}


def _from_json(path: Path) -> Tokenizer:
    text = read_text(path)
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises no narrower type
        raise CheckpointError(f"expected a tokenizer in {path}, found {error}; download it again") from error


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


def _added_tokens(folder: Path, settings: dict[str, Any]) -> dict[int, AddedToken]:
    """Id -> token, from added_tokens.json (text to id) and tokenizer_config.json (id to token with flags)."""
    try:
        added = {int(number): AddedToken(text) for text, number in _optional(folder / ADDED_TOKENS).items()}
        for number, token in settings.get("added_tokens_decoder", {}).items():
            flags = {key: bool(token.get(key)) for key in ("single_word", "lstrip", "rstrip", "normalized", "special")}
            added[int(number)] = AddedToken(token["content"], **flags)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: expected added tokens with ids in {ADDED_TOKENS} and {TOKENIZER_CONFIG}, "
            f"found {error!r}; download them again"
        ) from error
    return added


def _add(folder: Path, tokenizer: Tokenizer, token_id: int, token: AddedToken) -> None:
    """tokenizers numbers new tokens itself; one that it numbers differently would shift the vocabulary."""
    tokenizer.add_tokens([token])
    found = tokenizer.token_to_id(token.content)
    if found != token_id:
        raise CheckpointError(
            f"{folder}: expected the added token {token.content!r} to have id {token_id}, found {found}; "
            "use the vocabulary that belongs to these added tokens"
        )


def _eos(folder: Path, tokenizer: Tokenizer, settings: Sequence[dict[str, Any]], fallback_eos: Sequence[int]) -> int:
    """The settings' eos_token, config.json's, GPT-2's own, the separator, BERT's: the first that there is."""
    names = [_content(values.get("eos_token")) for values in settings]
    ids = [tokenizer.token_to_id(name) for name in names if name]
    ids += [token for token in fallback_eos if tokenizer.id_to_token(token) is not None]
    separators = [_content(values.get("sep_token")) for values in settings]
    ids += [tokenizer.token_to_id(name) for name in (END_OF_TEXT, *separators, "</s>", "[SEP]") if name]
    eos = next((token for token in ids if token is not None), None)
    if eos is None:
        raise CheckpointError(
            f"{folder}: expected an eos_token of the vocabulary in {TOKENIZER_CONFIG}, found none; name one"
        )
    return eos
