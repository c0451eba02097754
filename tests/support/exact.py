"""What is the right answer to the last bit? Helpers for tests that allow no tolerance.

Numbers are float32 arrays; `U` is float32's unit roundoff, the relative error of one rounding.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

U = 2.0**-24
_SMALLEST = -149  # the exponent of float32's smallest number


def rounded(x: Fraction) -> float:
    """The float32 nearest to an exact number, ties to even."""
    if x == 0:
        return 0.0
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    if abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** max(exponent - 23, _SMALLEST)
    result = round(x / quantum) * quantum
    return float(result) if abs(result) < Fraction(2) ** 128 else float("inf") * (1 if x > 0 else -1)


def fused(a: float, b: float, c: float) -> float:
    """a·b + c with one rounding."""
    return rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def bits(x: NDArray[Any]) -> NDArray[np.uint32]:
    """The bit patterns of float32 numbers: with them -0 differs from 0, and NaN equals itself."""
    assert x.dtype == np.float32
    return np.ascontiguousarray(x).view(np.uint32)


def assert_same_bits(actual: NDArray[Any], expected: NDArray[Any], what: str = "") -> None:
    """Equal to the last bit; the message shows where not."""
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(bits(actual), bits(expected), err_msg=what)


def poisoned(x: NDArray[Any], offset: int = 0) -> NDArray[Any]:
    """The same array as a view into a larger one: NaN or absurd integers before and behind it.

    It begins `offset` elements behind a multiple of 64 bytes.
    """
    border = 16
    poison = np.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).max
    buffer = np.full(x.size + 2 * border + 64 // x.itemsize + offset, poison, dtype=x.dtype)
    start = border + offset + (-(buffer.ctypes.data + border * x.itemsize) % 64) // x.itemsize
    view = buffer[start : start + x.size].reshape(x.shape)
    view[...] = x
    return view
