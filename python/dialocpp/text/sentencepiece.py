"""Which tokenizer does a sentencepiece model describe? Read from its protocol buffer; unigram models only.

Ids equal sentencepiece's, but for graphemes of several characters such as "\\r\\n" or half-width "ｶﾞ": there
the tokenizers package looks up the table of normal forms in another way, for us as for transformers.

The fields are those of sentencepiece_model.proto: ModelProto 1 pieces, 2 trainer_spec, 3 normalizer_spec.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from dialocpp.checkpoint.regular_file import read_bytes
from dialocpp.errors import CheckpointError

from .tokenizers_errors import guarded

_SPACE = "▁"
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_UNIGRAM = 1

Field = tuple[int, int | bytes]


@dataclass
class _Model:
    pieces: list[tuple[str, float]]
    kinds: list[int]
    charsmap: bytes = b""
    add_prefix: bool = True
    remove_extra_spaces: bool = True


def sentencepiece_tokenizer(path: Path, lowercase: bool) -> tuple[Tokenizer, list[str]]:
    """The tokenizer and the names of its control symbols; CheckpointError if the file is something else."""
    expected = f"a unigram sentencepiece model in {path}"
    model, tokenizer = guarded(CheckpointError, expected, "download it again", _built, path, lowercase)
    controls = [piece for (piece, _), kind in _typed(model) if kind == _CONTROL]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_cut(piece) for piece in controls])
    steps = [decoders.ByteFallback()] if _BYTE in model.kinds else []
    scheme = "always" if model.add_prefix else "never"
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Metaspace(_SPACE, scheme)])
    return tokenizer, controls


def _built(path: Path, lowercase: bool) -> tuple[_Model, Tokenizer]:
    model = _parse(read_bytes(path))
    unigram = models.Unigram(model.pieces, model.kinds.index(_UNKNOWN), _BYTE in model.kinds)
    tokenizer = Tokenizer(unigram)
    tokenizer.normalizer = normalizers.Sequence(list(_normalizers(model, lowercase)))
    return model, tokenizer


def _normalizers(model: _Model, lowercase: bool) -> Iterator[normalizers.Normalizer]:
    if lowercase:
        yield normalizers.Lowercase()
    if model.charsmap:
        yield normalizers.Precompiled(model.charsmap)
    if model.remove_extra_spaces:
        yield normalizers.Strip()
        yield normalizers.Replace(Regex(" {2,}"), " ")
    if model.add_prefix:
        yield normalizers.Prepend(" ")
    yield normalizers.Replace(" ", _SPACE)


def _cut(control: str) -> pre_tokenizers.PreTokenizer:
    """A control symbol is a piece like any other to the model: its text is cut, so that it is never found."""
    first_character = Regex(f"{re.escape(control[0])}(?={re.escape(control[1:])})")
    return pre_tokenizers.Split(first_character, "merged_with_previous")


def _parse(data: bytes) -> _Model:
    model = _Model([], [])
    for number, value in _fields(data):
        if number == 1:
            piece = dict(_fields(_message(value)))
            text = _message(piece.get(1, b"")).decode()
            (score,) = struct.unpack("<f", _message(piece.get(2, bytes(4))))
            model.pieces.append((text, score))
            model.kinds.append(int(_number(piece.get(3, 1))))
        elif number == 2:
            kind = dict(_fields(_message(value))).get(3, _UNIGRAM)
            if kind != _UNIGRAM:
                raise ValueError(f"a sentencepiece model of type {_number(kind)}")
        elif number == 3:
            settings = dict(_fields(_message(value)))
            model.charsmap = _message(settings.get(2, b""))
            model.add_prefix = bool(settings.get(3, 1))
            model.remove_extra_spaces = bool(settings.get(4, 1))
    if _UNKNOWN not in model.kinds:
        raise ValueError("no unknown token in it")
    if any(kind == _CONTROL and len(piece) < 2 for (piece, _), kind in _typed(model)):
        raise ValueError("a control symbol of one character, which a text could not be kept from")
    highest = max((score for (_, score), kind in _typed(model) if kind == _NORMAL), default=0.0)
    model.pieces = [
        # As sentencepiece scores them: better than any way to spell them in other pieces.
        (piece, len(piece) * highest - 0.1 if kind == _USER_DEFINED else score)
        for (piece, score), kind in _typed(model)
    ]
    return model


def _typed(model: _Model) -> Iterator[tuple[tuple[str, float], int]]:
    return zip(model.pieces, model.kinds, strict=True)


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a message where a number should be")
    return value


def _fields(data: bytes) -> Iterator[Field]:
    """The fields of a message: varints as numbers, everything else as its bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if at + size > len(data):
            raise ValueError("a file cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a file cut short")
        byte = data[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
