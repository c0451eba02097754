"""What does dialocpp's own weight file look like? docs/format.md is the same in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod

from dialocpp.checkpoint.element_types import ITEM_BYTES
from dialocpp.checkpoint.mapped import MappedFile
from dialocpp.errors import CheckpointError

FORMAT = "dialocpp"
VERSION = 1
ALIGNMENT = 64

Table = Mapping[str, tuple[str, tuple[int, ...]]]


def header_bytes(metadata: Mapping[str, str], table: Table) -> bytes:
    """The file up to its data: length and JSON, with spaces until the data begins at a multiple of 64."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for name, (dtype, shape) in table.items():
        end = begin + prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def check_tensors(where: str, file: MappedFile, table: Table) -> None:
    """CheckpointError if the file's tensors are not those of the table, or not aligned."""
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in file.tensors.items()}
    problems = [f"no {name}" for name in table if name not in found]
    problems += [f"{name}, which does not belong here" for name in found if name not in table]
    problems += [
        f"{name} {dtype} {shape} instead of {table[name][0]} {table[name][1]}"
        for name, (dtype, shape) in found.items()
        if name in table and table[name] != (dtype, shape)
    ]
    problems += [
        f"{name} off its {ALIGNMENT}-byte boundary"
        for name, tensor in file.tensors.items()
        if tensor.array.ctypes.data % ALIGNMENT
    ]
    if problems:
        raise CheckpointError(
            f"{where}: expected the packed tensors that its config describes, found {', '.join(problems)}; "
            "quantise the model again"
        )
