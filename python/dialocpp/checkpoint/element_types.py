"""Which types of numbers do weight files hold, and how do they become float32?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dialocpp import _core

# safetensors' names. numpy has no bfloat16: its bits are seen as uint16. A type that is not listed is seen as bytes, so
# that a tensor which is going to be left out does not make the file unreadable.
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

F32 = npt.NDArray[np.float32]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a type that is listed here."""
    return np.dtype(NUMPY[name])


def to_float32(name: str, array: npt.NDArray[Any]) -> F32:
    """The values as float32, contiguous and aligned; only for the types in FLOATS."""
    widen = {"BF16": _core.widen_bf16, "F16": _core.widen_f16}.get(name)
    if widen is not None:
        return widen(np.require(array, requirements=["C", "A"]).view(np.uint16))
    return np.require(array, np.float32, ["C", "A"])


def rounded(array: F32, name: str) -> F32:
    """float32 numbers as they would be after storing them as F16 or BF16; others are left as they are."""
    if name == "F16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float32)
    if name == "BF16":  # to the nearest, ties to even
        bits = array.view(np.uint32)
        up = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        nearest: F32 = ((bits + up) & np.uint32(0xFFFF0000)).view(np.float32)
        return nearest
    return array
