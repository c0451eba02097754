"""Which tensors lie in a safetensors file? Its header, read and checked.

By hand, because the safetensors package maps a file to look at it, and one that is cut at that moment would end the
process. What this reader takes, the package takes too, but for types of numbers that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from dialocpp.errors import CheckpointError, brief

from .element_types import ITEM_BYTES
from .json_file import parse_json
from .stored_tensor import StoredTensor
from .weight_file import WeightFile

# A GPT-2 of a thousand layers has a header of 2 MB.
MAX_HEADER = 16 << 20
_MAX_DIMENSIONS, _MAX_EXTENT = 8, 1 << 48


class Entry(NamedTuple):
    """Where one tensor lies: bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its metadata and its tensors by name, in the order of the data."""

    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]


def safetensors_of(path: Path) -> dict[str, StoredTensor]:
    """All tensors of a file by name, in the order of the data. CheckpointError if it is damaged or cut short."""
    file, header = open_safetensors(path)
    return {name: StoredTensor(at.dtype, at.shape, file, at.begin) for name, at in header.entries.items()}


def open_safetensors(path: Path) -> tuple[WeightFile, Header]:
    """The file and its checked header."""
    try:
        file = WeightFile(path)
        header = _header(file)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        found = f"one that is damaged or cut short ({reason})"
        if isinstance(error, ValueError) and file.is_lfs_pointer():
            found = "a git-lfs pointer to it"
        raise CheckpointError(f"expected a whole safetensors file {path}, found {found}; download it again") from error
    return file, header


def _header(file: WeightFile) -> Header:
    """ValueError, as the part of a sentence, for whatever is wrong."""
    length = int.from_bytes(file[:8], "little")
    if len(file) < 8 or length > len(file) - 8:
        raise ValueError(f"a header of {length} bytes in a file of {len(file)}")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes, more than {MAX_HEADER}")
    text = file[8 : 8 + length]
    if not text.startswith(b"{"):
        raise ValueError("no header")
    values = parse_json(text.decode(), _unique)
    metadata = values.pop("__metadata__", None) or {}
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        raise ValueError("metadata that is not text")
    entries = {name: _entry(name, value, 8 + length) for name, value in values.items()}
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    end = 8 + length
    for name, entry in entries.items():
        if entry.begin != end:
            raise ValueError(f"{brief(name)} at byte {entry.begin}, where byte {end} was expected")
        end = entry.end
    if end != len(file):
        raise ValueError(f"tensors up to byte {end} in a file of {len(file)}")
    return Header(metadata, entries)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the name {brief(name)} twice")
        values[name] = value
    return values


def _entry(name: str, value: Any, data: int) -> Entry:
    if type(value) is not dict or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{brief(name)} described in an unknown way")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    numbers = [*shape, *offsets] if type(shape) is list and type(offsets) is list else [None]
    if type(dtype) is not str or any(type(n) is not int or not 0 <= n <= _MAX_EXTENT for n in numbers):
        raise ValueError(f"{brief(name)} described in an unknown way")
    if len(shape) > _MAX_DIMENSIONS or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{brief(name)} described in an unknown way")
    begin, end = offsets
    if dtype in ITEM_BYTES and prod(shape) * ITEM_BYTES[dtype] != end - begin:
        raise ValueError(f"{brief(name)} of {end - begin} bytes, where {dtype} {brief(tuple(shape))} has others")
    return Entry(dtype, tuple(shape), data + begin, data + end)
