"""What does one tensor of a weight file hold? Read when it is asked for, whole or a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .element_types import F32, ITEM_BYTES, NUMPY, to_float32
from .weight_file import WeightFile


def _sound() -> None:
    """For files without checksums."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a file describes it, found to lie inside of the file. Nothing of its numbers is kept.

    `begin` is the byte of its first element, `strides` the distance of neighbours in elements (None: one after the
    other). `check` is called before each reading: CheckpointError if its bytes are not those that were written. Each
    method that reads raises CheckpointError if the file was cut in the meantime.
    """

    dtype: str
    shape: tuple[int, ...]
    file: WeightFile = field(repr=False)
    begin: int
    strides: tuple[int, ...] | None = None
    check: Callable[[], None] = field(default=_sound, repr=False, compare=False)

    @property
    def array(self) -> npt.NDArray[Any]:
        """The numbers as they are stored: bfloat16 as its bits. Only for a type in NUMPY."""
        self.check()
        if self.strides is None:
            return self._elements(0, prod(self.shape)).reshape(self.shape)
        span = 1 + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        elements = self._elements(0, span if prod(self.shape) else 0)
        steps = [step * elements.itemsize for step in self.strides]
        view: npt.NDArray[Any] = np.ndarray(self.shape, elements.dtype, elements, 0, steps)
        return view

    def float32(self) -> F32:
        """The values as float32, contiguous and aligned; only for the types in FLOATS."""
        return to_float32(self.dtype, self.array)

    def parts(self, rows: int) -> Iterator[F32]:
        """The same, so many rows at a time."""
        if self.strides is not None:  # rows that lie between each other: each part would read nearly all of them
            array = self.array
            for first in range(0, self.shape[0], rows):
                yield to_float32(self.dtype, array[first : first + rows])
            return
        self.check()
        width = prod(self.shape[1:])
        for first in range(0, self.shape[0], rows):
            shape = (min(rows, self.shape[0] - first), *self.shape[1:])
            yield to_float32(self.dtype, self._elements(first * width, prod(shape)).reshape(shape))

    def _elements(self, first: int, count: int) -> npt.NDArray[Any]:
        elements = np.empty(count, NUMPY[self.dtype])
        raw = elements.view(np.uint8)
        self.file.read_into(self.begin + first * ITEM_BYTES[self.dtype], raw.data)
        return elements


Tensors = dict[str, StoredTensor]
