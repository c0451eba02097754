"""What does an int8 linear compute? Quantisation, packing and the product, in exact integers.

A weight channel is symmetric: w ≈ q · scale. A row of activations is not: x ≈ (q - zero) · scale, with q a
byte, so that its 256 steps reach from its smallest to its largest value. Letters as in reference.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 16  # outputs in a packed block
GROUP = 4  # inputs that one int8 dot-product instruction takes
SILENT = np.float32(1e-35)  # a narrower range would overflow its inverse: all of it counts as zero

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]


def _steps(width: F32, count: int) -> tuple[F32, F32]:
    """Ranges -> steps per unit and units per step, for so many steps a range; both 0 for a silent one."""
    silent = width < SILENT
    inverse = np.divide(np.float32(count), width, out=np.zeros_like(width), where=~silent)
    return inverse, np.where(silent, np.float32(0), width / np.float32(count))


def quantize_rows(x: F32) -> tuple[U8, F32, I64]:
    """(M, K) -> q (M, K), scale (M,) and zero (M,), so that x ≈ (q - zero) · scale.

    In float32 and rounding halves to even, as the core does it, so that the integers are the core's.
    """
    x = np.asarray(x, dtype=np.float32)
    low, high = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)  # (M,)
    inverse, scale = _steps(high - low, 255)
    zero = np.rint(-low * inverse).astype(np.int64)
    q = np.rint(x * inverse[:, None]).astype(np.int64) + zero[:, None]
    return np.clip(q, 0, 255).astype(np.uint8), scale, zero


def quantize_channels(weight: F32) -> tuple[I8, F32]:
    """(K, N) -> q (K, N) within ±127 and one scale for each output channel (N,)."""
    weight = np.asarray(weight, dtype=np.float32)
    inverse, scale = _steps(np.abs(weight).max(axis=0), 127)
    return np.rint(weight * inverse).astype(np.int8), scale


def channel_sums(qw: I8) -> I64:
    """(K, N) -> (N,): what each unit of `zero` adds to a product of bytes."""
    return qw.astype(np.int64).sum(axis=0)


def matmul(qa: U8, zero: I64, qw: I8) -> I64:
    """Σ_k (qa[m, k] - zero[m]) · qw[k, n], (M, N), exactly."""
    return (qa.astype(np.int64) - zero[:, None]) @ qw.astype(np.int64)


def linear(x: F32, weight: F32, bias: F32) -> NDArray[np.float64]:
    """x (M, K), weight (K, N), bias (N,) -> (M, N): exact integers, then scales and bias in float64."""
    qa, a_scale, zero = quantize_rows(x)
    qw, w_scale = quantize_channels(weight)
    return matmul(qa, zero, qw) * np.outer(a_scale.astype(np.float64), w_scale) + bias


def _padded(x: NDArray[Any], multiples: tuple[int, int]) -> NDArray[Any]:
    """(K, N) with zeros appended until each side is a multiple."""
    return np.pad(x, [(0, -size % multiple) for size, multiple in zip(x.shape, multiples, strict=True)])


def pack_f32(weight: F32) -> F32:
    """(K, N) -> (N/16, K, 16): out[nb, k, l] = weight[k, 16·nb + l]."""
    padded = _padded(weight, (1, LANES))
    K, N = padded.shape
    return np.ascontiguousarray(padded.reshape(K, N // LANES, LANES).transpose(1, 0, 2))


def pack_i8(qw: I8) -> I8:
    """(K, N) -> (N/16, K/4, 16, 4): out[nb, kb, l, j] = qw[4·kb + j, 16·nb + l]."""
    padded = _padded(qw, (GROUP, LANES))
    K, N = padded.shape
    blocks = padded.reshape(K // GROUP, GROUP, N // LANES, LANES)
    return np.ascontiguousarray(blocks.transpose(2, 0, 3, 1))
