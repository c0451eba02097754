"""Which arrays lie in a safetensors file? Mapped into memory, nothing is copied."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from dialocpp import _core
from dialocpp.errors import CheckpointError

# numpy has no bfloat16: its bits are seen as uint16. A dtype that is not listed is seen as bytes, so that a
# tensor which is going to be dropped does not make the file unreadable.
NUMPY: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": np.uint16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
    "C128": np.complex128,
}
ITEM_BYTES = {name: np.dtype(kind).itemsize for name, kind in NUMPY.items()}
FLOATS = ("F32", "F16", "BF16", "F64")

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies in a file. `array` is a read-only view that keeps the mapping alive."""

    dtype: str
    shape: tuple[int, ...]
    array: npt.NDArray[Any]

    def float32(self) -> npt.NDArray[np.float32]:
        """The values as float32, contiguous and aligned; only for the dtypes in FLOATS."""
        return _float32(self.dtype, self.array)

    def parts(self, rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """The same, so many rows at a time; of what has been read nothing is kept."""
        for first in range(0, self.shape[0], rows):
            yield _float32(self.dtype, self.array[first : first + rows])
            self.release_pages()

    def release_pages(self) -> None:
        """Take the file's pages, which can be read again, out of this process's memory."""
        base: object = self.array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class MappedFile:
    """A safetensors file: its metadata and its tensors by name, in the order of the data."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, StoredTensor]


def map_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, mapped; OSError if it cannot be."""
    if not path.stat().st_size:
        return np.zeros(0, np.uint8)  # nothing cannot be mapped
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))


def pointer_to_lfs(path: Path) -> bool:
    """Whether a file only says where git-lfs keeps the real one."""
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return False


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a safetensors dtype that is listed here."""
    return np.dtype(NUMPY[name])


def map_safetensors(path: Path) -> MappedFile:
    """Map a file that the safetensors package finds valid; CheckpointError if it is damaged or cut short."""
    _validate(path)
    raw = map_bytes(path)
    size = int.from_bytes(raw[:8].tobytes(), "little")
    header = json.loads(raw[8 : 8 + size].tobytes())
    metadata = header.pop("__metadata__", {})
    data = raw[8 + size :]
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return MappedFile(metadata, {name: _view(data, entry) for name, entry in entries})


def _validate(path: Path) -> None:
    """The safetensors package checks the header, and that shapes, offsets and length fit together."""
    try:
        with safe_open(path, framework="numpy"):
            return
    except (SafetensorError, OSError) as error:
        reason = str(error) or type(error).__name__
    found = f"one that is damaged or cut short ({reason})"
    if pointer_to_lfs(path):
        found = "a git-lfs pointer to it"
    raise CheckpointError(f"expected a whole safetensors file {path}, found {found}; download it again")


def _view(data: npt.NDArray[np.uint8], entry: dict[str, Any]) -> StoredTensor:
    begin, end = entry["data_offsets"]
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    raw = data[begin:end]
    array = raw.view(NUMPY[dtype]).reshape(shape) if dtype in NUMPY else raw
    return StoredTensor(dtype, shape, array)


def _float32(dtype: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    widen = {"BF16": _core.widen_bf16, "F16": _core.widen_f16}.get(dtype)
    if widen is not None:
        return widen(np.require(array, requirements=["C", "A"]).view(np.uint16))
    return np.require(array, np.float32, ["C", "A"])
