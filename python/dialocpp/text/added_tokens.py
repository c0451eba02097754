"""Which tokens do the files beside a vocabulary add, which of them are special, and under which ids do they stand?

As transformers 5 reads the files:

- tokenizer_config.json's `added_tokens_decoder` counts alone; without it, added_tokens.json and special_tokens_map.json
  do, and what the map says goes before tokenizer_config.json.
- After those tokens come the named ones (`bos_token` to `mask_token`, then any other `..._token`), and after them
  `extra_special_tokens`, or `additional_special_tokens` where those are missing.
- A token that the vocabulary has keeps its id. Every other one takes the next free id, in this order, whatever id the
  files write beside it: a gap in their ids is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

from dialocpp.checkpoint.files import ADDED_TOKENS, SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG
from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.errors import CheckpointError

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA, _OLD_EXTRA = "extra_special_tokens", "additional_special_tokens"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Settings(NamedTuple):
    """tokenizer_config.json and what counts of the files beside it."""

    values: dict[str, Any]
    added: tuple[AddedToken, ...]  # in the order of their ids
    ignored: dict[str, Any]  # special_tokens_map.json where it does not count

    def name(self, key: str) -> str | None:
        """The text of a special token such as `eos_token`, if the files name one."""
        return _content(self.values.get(key))

    def special(self, defaults: Mapping[str, str]) -> list[AddedToken]:
        """The special tokens in the order in which new ones are numbered; `defaults`: those of the tokenizer's kind."""
        values = {**defaults, **self.values}
        others = [key for key in values if key.endswith("_token") and key not in NAMED]
        tokens = [_special(values.get(key)) for key in (*NAMED, *others)]
        return [token for token in (*tokens, *map(_special, _extra(values))) if token is not None]

    def also_named(self) -> list[str]:
        """Texts that only a file which does not count calls special: they are not added, but out of reach."""
        tokens = [self.ignored.get(key) for key in NAMED] + list(_extra(self.ignored))
        return [text for text in map(_content, tokens) if text]


def read_settings(folder: Path) -> Settings:
    """The settings in a tokenizer's folder; CheckpointError if they are broken."""
    values, specials = _optional(folder / TOKENIZER_CONFIG), _optional(folder / SPECIAL_TOKENS_MAP)
    try:
        if "added_tokens_decoder" in values:
            listed = {int(number): _added(token) for number, token in values["added_tokens_decoder"].items()}
            return Settings(values, tuple(listed[number] for number in sorted(listed)), specials)
        values = _merged(values, specials)
        special = {*filter(None, (_content(values.get(key)) for key in NAMED)), *map(_content, _extra(values))}
        named = sorted((int(number), text) for text, number in _optional(folder / ADDED_TOKENS).items())
        added = (
            AddedToken(text, normalized=text not in special, special=text in special) for _, text in named if text
        )
        return Settings(values, tuple(added), {})
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{folder}: expected added tokens with ids in {ADDED_TOKENS} and {TOKENIZER_CONFIG}, "
            f"found {error!r}; download them again"
        ) from error


def add_to(tokenizer: Tokenizer, settings: Settings, defaults: Mapping[str, str]) -> None:
    """Add the tokens to a vocabulary, as transformers numbers them."""
    known = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_tokens([token for token in settings.added if repr(token) != repr(known.get(token.content))])
    known |= {token.content: token for token in settings.added}
    named = [token for token in settings.special(defaults) if token.content not in known]
    new = {token.content for token in named if tokenizer.token_to_id(token.content) is None}
    if new <= set(defaults.values()) - set(map(settings.name, NAMED)):
        # Nobody asked for them and nothing is numbered after them: the vocabulary stays as it is.
        named = [token for token in named if token.content not in new]
    tokenizer.add_tokens(named)


def _optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _merged(values: dict[str, Any], specials: dict[str, Any]) -> dict[str, Any]:
    """special_tokens_map.json goes first; lists of further tokens come together."""
    merged = {**values, **specials}
    if isinstance(values.get(_EXTRA), list) and isinstance(specials.get(_EXTRA), list):
        merged[_EXTRA] = [*values[_EXTRA], *(token for token in specials[_EXTRA] if token not in values[_EXTRA])]
    return merged


def _extra(values: Mapping[str, Any]) -> Iterator[Any]:
    extra = values.get(_EXTRA) or values.get(_OLD_EXTRA)
    tokens: Iterable[Any] = extra.values() if isinstance(extra, dict) else extra if isinstance(extra, list) else ()
    return iter(tokens)


def _content(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content and flags."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _special(token: Any) -> AddedToken | None:
    text = _content(token)
    if text is None:
        return None
    flags = _flags(token) if isinstance(token, dict) else {}
    return AddedToken(text, **{"normalized": False, **flags, "special": True})


def _added(token: dict[str, Any]) -> AddedToken:
    return AddedToken(token["content"], **_flags(token))


def _flags(token: dict[str, Any]) -> dict[str, bool]:
    return {key: bool(token[key]) for key in _FLAGS if key in token}
