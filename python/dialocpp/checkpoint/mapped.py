"""How does a packed file come into memory without being copied? Mapped, so that all processes share its pages.

Only packed files are mapped: `dialocpp quantize`'s and the int8 copy in the user's cache. Whoever cuts such a file
short while it is in use ends the processes that use it; every other weight file is read (`weight_file`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .element_types import NUMPY
from .safetensors_file import Entry, open_safetensors


@dataclass(frozen=True)
class MappedTensor:
    """One tensor as it lies in a file. `array` is a read-only view that keeps the mapping alive."""

    dtype: str
    shape: tuple[int, ...]
    array: npt.NDArray[Any]


@dataclass(frozen=True)
class MappedFile:
    """A safetensors file: its metadata and its tensors by name, in the order of the data."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, MappedTensor]


def map_safetensors(path: Path) -> MappedFile:
    """Map a file whose header is sound; CheckpointError if it is damaged or cut short."""
    file, header = open_safetensors(path)
    raw = np.frombuffer(file.mapped(), np.uint8)
    return MappedFile(header.metadata, {name: _view(raw, entry) for name, entry in header.entries.items()})


def _view(raw: npt.NDArray[np.uint8], entry: Entry) -> MappedTensor:
    part = raw[entry.begin : entry.end]
    array = part.view(NUMPY[entry.dtype]).reshape(entry.shape) if entry.dtype in NUMPY else part
    return MappedTensor(entry.dtype, entry.shape, array)
