"""Does every kernel of every rung keep its contract: near the formula, and the same bits on every rung?

Letters as in reference.py. `runnable_isa` comes from conftest: each test runs once a rung, and `scalar` is
the definition that the others must equal to the last bit.
"""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from dialocpp import BackendError, _core
from exact import F32, U, assert_same_bits, fused, poisoned
from reference import attention as reference_attention
from reference import layer_norm as reference_layer_norm
from reference_int8 import channel_sums, matmul, pack_f32, pack_i8, quantize_rows
from scipy.special import expit

kernels = _core.testing

ROWS = range(1, 18)
TAILS = [*range(1, 10), 63, 64, 65, 66]  # of K
LANES = 16


def normal(seed: int, *shape: int) -> F32:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# float32 products


def f32_bound(x: F32, weight: F32, *addends: F32) -> np.ndarray:
    """Higham's bound for a sum in order: each of its terms passes at most K + 2 roundings."""
    size = np.abs(x).astype(np.float64) @ np.abs(weight) + sum(np.abs(addend) for addend in addends)
    n = (weight.shape[0] + 2) * U
    return n / (1 - n) * size


@pytest.mark.parametrize("K", [*TAILS, 1000])
def test_gemm_f32_is_the_product(runnable_isa: str, K: int) -> None:
    for M, N in itertools.product([*ROWS, 40] if K < 10 else [1, 2, 5, 17], [16, 32, 48, 80]):
        x, weight = poisoned(normal(M, M, K), M % 5), normal(N, K, N)
        bias, onto = poisoned(normal(7, N), 3), normal(8, M, N)
        packed = poisoned(pack_f32(weight), 1)
        product = x.astype(np.float64) @ weight
        for b, o in itertools.product([None, bias], [None, onto]):
            out = kernels.gemm_f32(runnable_isa, x, packed, b, o)
            added = [y for y in (b, o) if y is not None]
            assert (np.abs(out - (product + sum(added))) <= f32_bound(x, weight, *added)).all()
            assert_same_bits(out, kernels.gemm_f32("scalar", x, packed, b, o), f"{M} x {K} x {N}")


@pytest.mark.parametrize("K", [*TAILS, 1000])
def test_gemm_f16_is_gemm_f32_on_the_same_weights(runnable_isa: str, K: int) -> None:
    """Halves are exact in float32, and the sums are the same sums."""
    for M, N in itertools.product([1, 2, 3, 4, 5, 6, 7, 8, 9, 17], [16, 32, 48, 64, 80, 144]):
        x, bias, onto = poisoned(normal(M, M, K), M % 5), poisoned(normal(7, N), 3), normal(8, M, N)
        weight = (normal(N, K, N) * np.exp2(normal(9, N) * 4)).clip(-65504, 65504).astype(np.float16)
        packed = pack_f32(weight.astype(np.float32))
        halves = poisoned(packed.astype(np.float16), 1).view(np.uint16)
        for b, o in itertools.product([None, bias], [None, onto]):
            out = kernels.gemm_f16(runnable_isa, x, halves, b, o)
            assert_same_bits(out, kernels.gemm_f32(runnable_isa, x, packed, b, o), f"{M} x {K} x {N}")


def test_gemm_f16_reads_every_half(runnable_isa: str) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = np.where(np.isfinite(halves), halves, np.float16(0)).reshape(-1, 1, LANES)
    out = kernels.gemm_f16(runnable_isa, np.ones((1, 1), np.float32), halves.view(np.uint16))
    np.testing.assert_array_equal(out.ravel(), halves.ravel().astype(np.float32))


def test_gemm_f32_is_the_same_for_every_split(runnable_isa: str) -> None:
    M, K, N = 23, 37, 112
    x, packed, bias = normal(1, M, K), pack_f32(normal(2, K, N)), normal(3, N)
    whole = kernels.gemm_f32(runnable_isa, x, packed, bias)
    for height, width in itertools.product([1, 2, 3, 7, 8, 9], [1, 2, 3, 5]):
        for row, block in itertools.product(range(0, M, height), range(0, N // LANES, width)):
            columns = slice(block * LANES, (block + width) * LANES)
            part = kernels.gemm_f32(
                runnable_isa, x[row : row + height], packed[block : block + width], bias[columns]
            )
            assert_same_bits(part, whole[row : row + height, columns])


def test_gemm_f32_sums_in_order(runnable_isa: str) -> None:
    """One fused multiply-add per element, from the first to the last: the contract says which bits."""
    K = 9
    x, weight = normal(4, 3, K), normal(5, K, LANES)
    out = kernels.gemm_f32(runnable_isa, x, pack_f32(weight))
    for m, n in itertools.product(range(3), range(LANES)):
        total = 0.0
        for k in range(K):
            total = fused(x[m, k], weight[k, n], total)
        assert out[m, n] == total


def fma(isa: str, a: F32, b: F32, c: F32) -> F32:
    """a[m] · b[n] + c[m] with the rung's multiply-add: c · 1 is exact, so only the second step rounds."""
    weight = np.stack([np.ones_like(b), b])
    return kernels.gemm_f32(isa, np.stack([c, a], axis=1), pack_f32(weight))[:, : len(b)]


def halfway_products(rng: np.random.Generator, count: int) -> tuple[F32, F32]:
    """a · b that lie exactly between two float32 numbers: odd integers of 25 bits."""
    a = rng.integers(2**11, 2**12, count) | 1
    b = -(-(2**24) // a) + rng.integers(0, 2**11, count) | 1
    b = np.where(a * b < 2**25, b, b - 2**11 | 1)
    inside = (a * b >= 2**24) & (a * b < 2**25)
    assert inside.mean() > 0.9
    return a[inside].astype(np.float32), b[inside].astype(np.float32)


def fma_cases() -> dict[str, tuple[F32, F32, F32]]:
    rng = np.random.default_rng(6)

    def floats(count: int, low: int, high: int) -> F32:
        """Any sign and fraction, exponents from `low` to `high`."""
        fraction = rng.integers(2**23, 2**24, count).astype(np.float64) * rng.choice([-1, 1], count)
        return (fraction * 2.0 ** (rng.integers(low, high, count) - 23)).astype(np.float32)

    a, b = floats(256, -10, 10), floats(256, -10, 10)
    product = a.astype(np.float64) * b
    half_a, half_b = halfway_products(rng, 256)
    halves = half_a.astype(np.float64) * half_b
    nudge = (2.0 ** -rng.integers(20, 140, len(halves))) * rng.choice([-1, 1], len(halves))
    small_a, small_b = floats(256, -75, -64), floats(256, -75, -64)
    tie = np.full(256, 2.0**-75, dtype=np.float32)
    return {
        "random": (a, b, floats(256, -20, 20)),
        "the sum cancels to the product's rounding": (a, b, -product.astype(np.float32)),
        "the sum nearly cancels": (a, b, np.nextafter(-product.astype(np.float32), np.float32(0))),
        "halfway, nudged beyond float64": (half_a, half_b, nudge.astype(np.float32)),
        "halfway, exactly": (half_a, half_b, np.zeros_like(half_a)),
        "half of the last subnormal bit": (tie, tie, floats(256, -126, -120)),
        "subnormal": (small_a, small_b, floats(256, -140, -126)),
        "subnormal and cancelling": (small_a, small_b, -(small_a * small_b)),
        "vanishing": (floats(256, -80, -74), floats(256, -80, -74), np.zeros(256, np.float32)),
        "huge": (floats(256, 60, 64), floats(256, 60, 64), floats(256, 120, 127)),
        "tiny addend": (a, b, floats(256, -126, -100)),
        "huge addend": (a, b, floats(256, 50, 100)),
    }


@pytest.mark.parametrize("name", fma_cases().keys())
def test_the_multiply_add_rounds_once(runnable_isa: str, name: str) -> None:
    a, b, c = fma_cases()[name]
    with np.errstate(all="ignore"):
        out = fma(runnable_isa, a, b, c)
    assert_same_bits(out, fma("scalar", a, b, c))
    diagonal = [fused(*triple) for triple in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(np.diag(out), np.array(diagonal))
    # Beside the pairs that were made for each other, a thousand that were not.
    rng = np.random.default_rng(7)
    for m, n in rng.integers(0, len(a), (1000, 2)):
        assert out[m, n] == fused(a[m], b[n], c[m]), (a[m].hex(), b[n].hex(), c[m].hex())


def test_the_halfway_cases_would_catch_two_roundings() -> None:
    """Rounding to float64 first gives another result for some of them: else they would prove nothing."""
    a, b, c = fma_cases()["halfway, nudged beyond float64"]
    twice = (a.astype(np.float64) * b + c).astype(np.float32)
    once = np.array([fused(*triple) for triple in zip(a, b, c, strict=True)], dtype=np.float32)
    assert (twice != once).sum() > 20


# int8: quantisation


def quantisable_rows(M: int, K: int, seed: int) -> F32:
    """Rows of many kinds: centred, of one sign, constant, silent, very small and large, with an outlier."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((M, K))
    kinds = [
        lambda row: row,
        np.abs,
        lambda row: -np.abs(row) - 3,
        lambda row: np.full_like(row, 0.7),
        lambda row: row * 0,
        lambda row: row * 1e-30,
        lambda row: row * 1e-37,
        lambda row: row * 1e30,
        lambda row: np.where(np.arange(K) == K // 2, 1e4, row),
        lambda row: np.rint(row * 40) / 2 + np.where(np.arange(K) == 0, 127.5, 0),  # ties
    ]
    return np.array([kinds[(seed + m) % len(kinds)](row) for m, row in enumerate(x)], dtype=np.float32)


@pytest.mark.parametrize("K", [*range(1, 35), 63, 64, 65, 66, 100, 255, 1001])
def test_quantised_rows_are_the_reference(runnable_isa: str, K: int) -> None:
    for M in ROWS:
        x = poisoned(quantisable_rows(M, K, seed=M), M % 4)
        q, scale, zero = kernels.quantize_rows(runnable_isa, x)
        expected_q, expected_scale, expected_zero = quantize_rows(x)
        np.testing.assert_array_equal(q[:, :K], expected_q)
        # What fills the last group meets weights of 0, but must be the same everywhere.
        np.testing.assert_array_equal(q[:, K:], np.broadcast_to(zero[:, None], q[:, K:].shape))
        np.testing.assert_array_equal(zero, expected_zero)
        assert_same_bits(scale, expected_scale)


def test_quantisation_meets_every_tie(runnable_isa: str) -> None:
    steps = np.arange(0, 255, 0.5, dtype=np.float32)
    for low in (0, -1, -127, -128, -255):
        x = (steps + low)[None]
        x = np.append(x, np.float32([[low, low + 255]]), axis=1)  # the step is exactly 1
        q, scale, zero = kernels.quantize_rows(runnable_isa, x)
        assert scale[0] == 1 and zero[0] == -low
        expected = np.clip(np.rint(x[0]).astype(int) - low, 0, 255)  # numpy rounds ties to even too
        np.testing.assert_array_equal(q[0, : len(expected)], expected)


# int8: products


def random_bytes(seed: int, M: int, K: int, N: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """qa (M, K), zero (M,) and qw (K, N)."""
    rng = np.random.default_rng(seed)
    qa = rng.integers(0, 256, (M, K), dtype=np.uint8)
    return qa, rng.integers(0, 256, M, dtype=np.int32), rng.integers(-127, 128, (K, N), dtype=np.int8)


def padded(x: np.ndarray, side: int, multiple: int) -> np.ndarray:
    """The array with zeros behind it, along one side."""
    widths = [(0, 0)] * x.ndim
    widths[side] = (0, -x.shape[side] % multiple)
    return np.pad(x, widths)


def raw_product(isa: str, qa: np.ndarray, zero: np.ndarray, qw: np.ndarray) -> np.ndarray:
    """gemm_i8_raw on unpacked operands, each behind and before poison. The columns are padded to 16."""
    total = padded(channel_sums(qw), 0, LANES).astype(np.int32)
    # The bytes that fill the last group meet weights of 0: let them be anything.
    filled = np.pad(qa, [(0, 0), (0, -qa.shape[1] % 4)], constant_values=213)
    return kernels.gemm_i8_raw(
        isa,
        poisoned(filled, 3),
        poisoned(zero.astype(np.int32), 1),
        poisoned(pack_i8(qw), 5),
        poisoned(total, 1),
    )


@pytest.mark.parametrize("K", TAILS)
def test_gemm_i8_is_exact_for_every_tail(runnable_isa: str, K: int) -> None:
    for M, N in itertools.product(ROWS, [*range(1, 18), 31, 32, 33, 48, 63, 64, 65, 80, 97]):
        if N > 17 and M not in (1, 2, 3, 4, 7, 8, 9, 16, 17):
            continue
        qa, zero, qw = random_bytes(M * 100 + N, M, K, N)
        out = raw_product(runnable_isa, qa, zero, qw)
        np.testing.assert_array_equal(out[:, :N], matmul(qa, zero, qw))
        assert not out[:, N:].any()


TRAPS = {
    "largest": (255, 127),
    "most negative": (255, -127),
    "silent": (0, 127),
    "middle": (128, -127),
    "below the middle": (127, 127),
}


@pytest.mark.parametrize("K", [2, 4, 64, 65, 1024, 3072, 5120, 65536])
def test_gemm_i8_never_saturates(runnable_isa: str, K: int) -> None:
    """16-bit sums of byte products, and 32-bit sums at the largest K that a config may have."""
    for M, N in [(1, 16), (5, 48)] if K < 65536 else [(1, 16)]:
        for (a, w), zero in itertools.product(TRAPS.values(), (0, 128, 255)):
            qa = np.full((M, K), a, dtype=np.uint8)
            qw = np.full((K, N), w, dtype=np.int8)
            qw[:, 1] *= -1
            qw[::2, 2] *= -1  # neighbours that cancel
            qa[M - 1, ::3] = 255 - a
            zeros = np.full(M, zero, dtype=np.int32)
            np.testing.assert_array_equal(raw_product(runnable_isa, qa, zeros, qw), matmul(qa, zeros, qw))


@pytest.mark.parametrize("K", [1, 7, 64, 259])
def test_gemm_i8_scales_with_one_rounding(runnable_isa: str, K: int) -> None:
    """float(sum) · (a_scale · w_scale) + bias is one multiply-add; then it is added to what is there."""
    M, N = 11, 48
    qa, zero, qw = random_bytes(K, M, K, N)
    a_scale, w_scale = np.abs(normal(1, M)) / 100, np.abs(normal(2, N)) / 100
    bias, onto = poisoned(normal(3, N), 1), normal(4, M, N)
    sums = matmul(qa, zero, qw)
    total = channel_sums(qw).astype(np.int32)
    operands = padded(qa, 1, 4), poisoned(a_scale, 1), zero, pack_i8(qw), poisoned(w_scale, 3), total
    for b, o in itertools.product([None, bias], [None, onto]):
        out = kernels.gemm_i8(runnable_isa, *operands, b, o)
        for m, n in itertools.product(range(M), range(N)):
            expected = fused(np.float32(sums[m, n]), a_scale[m] * w_scale[n], 0 if b is None else b[n])
            assert out[m, n] == (expected if o is None else np.float32(expected) + o[m, n])
        assert_same_bits(out, kernels.gemm_i8("scalar", *operands, b, o))


def test_gemm_i8_is_the_same_for_every_split(runnable_isa: str) -> None:
    M, K, N = 23, 36, 112
    qa, zero, qw = random_bytes(9, M, K, N)
    a_scale, w_scale, bias = (np.abs(normal(seed, n)) for seed, n in ((1, M), (2, N), (3, N)))
    packed, total = pack_i8(qw), channel_sums(qw).astype(np.int32)
    whole = kernels.gemm_i8(runnable_isa, qa, a_scale, zero, packed, w_scale, total, bias)
    for height, width in itertools.product([1, 2, 3, 7, 8, 9], [1, 2, 3, 5]):
        for row, block in itertools.product(range(0, M, height), range(0, N // LANES, width)):
            r, c = slice(row, row + height), slice(block * LANES, (block + width) * LANES)
            part = kernels.gemm_i8(
                runnable_isa,
                qa[r],
                a_scale[r],
                zero[r],
                packed[block : block + width],
                w_scale[c],
                total[c],
                bias[c],
            )
            assert_same_bits(part, whole[r, c])


# Attention

HEAD_SIZES = [1, 8, 40, 64, 80, 128]
LENGTHS = [1, 2, 31, 32, 33, 64, 65]  # a page of the cache holds 32 positions


def attention_inputs(T: int, D: int, size: float = 1.0) -> tuple[F32, F32, F32]:
    q, k, v = (poisoned(normal(seed, T, D), 1) for seed in (1, 2, 3))
    k *= np.float32(size)
    return q, k, v


def attention_bound(q: F32, k: F32, v: F32, scale: float) -> float:
    """How far a mean of v may move: max|v| times a probability's relative error, above and below the line.

    A score passes D + 2 roundings, and its error is that relative error; exp adds a few and the sum T.
    """
    score_error = (q.shape[1] + 2) * U * float((np.abs(q).astype(np.float64) @ np.abs(k).T).max()) * scale
    return 2 * float(np.abs(v).max()) * (score_error + (len(q) + 16) * U)


@pytest.mark.parametrize("D", HEAD_SIZES)
@pytest.mark.parametrize("size", [1.0, 200.0], ids=["flat", "peaked"])
def test_attention_is_the_formula(runnable_isa: str, D: int, size: float) -> None:
    scale = D**-0.5
    for T in LENGTHS:
        q, k, v = attention_inputs(T, D, size)
        out = kernels.attention(runnable_isa, q, k, v, scale, False, [T])
        wide = (x.astype(np.float64)[None] for x in (q, k, v))
        expected = reference_attention(*wide, float(np.float32(scale)))[0]
        assert np.abs(out - expected).max() <= attention_bound(q, k, v, scale)
        assert_same_bits(out, kernels.attention("scalar", q, k, v, scale, False, [T]))


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("D", HEAD_SIZES)
def test_attention_in_pieces_is_attention_at_once(runnable_isa: str, D: int, half: bool) -> None:
    for T in LENGTHS:
        operands = (*attention_inputs(T, D), D**-0.5, half)
        whole = kernels.attention(runnable_isa, *operands, [T])
        for piece in (1, 2, 3, 5, 31, 32, 33):
            pieces = [piece] * (T // piece) + [T % piece] * (T % piece > 0)
            part = kernels.attention(runnable_isa, *operands, pieces)
            assert_same_bits(part, whole, f"{T} positions in pieces of {piece}")


def awkward_for_half(T: int, D: int) -> F32:
    """Subnormal halves, what rounds to 0, ties between two halves, and more than the largest half."""
    rng = np.random.default_rng(T * D)
    x = rng.standard_normal((T, D)) * 2.0 ** rng.integers(-27, 4, (T, D))
    ties = (rng.integers(2**10, 2**11, (T, D)) + 0.5) * 2.0 ** rng.integers(-26, -8, (T, D))
    x = np.where(rng.random((T, D)) < 0.3, ties, x)
    return np.where(rng.random((T, D)) < 0.02, rng.choice([-1e6, 1e6, 65519, 65520, 1e38], (T, D)), x).astype(
        np.float32
    )


@pytest.mark.parametrize("D", HEAD_SIZES)
def test_attention_in_half_is_attention_on_rounded_keys_and_values(runnable_isa: str, D: int) -> None:
    for T in (1, 33, 65):
        q = normal(1, T, D) * np.float32(1e-3)
        k, v = awkward_for_half(T, D), awkward_for_half(T, D)[::-1]
        rounded = [np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32) for x in (k, v)]
        out = kernels.attention(runnable_isa, q, k, v, 0.125, True, [T])
        assert_same_bits(out, kernels.attention(runnable_isa, q, *rounded, 0.125, False, [T]))
        assert_same_bits(out, kernels.attention("scalar", q, k, v, 0.125, True, [T]))


def test_every_half_survives_the_cache(runnable_isa: str) -> None:
    """One position attends to itself alone: its value comes back."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = halves[np.isfinite(halves)].astype(np.float32).reshape(-1, 1024)
    zeros = np.zeros((1, 1024), dtype=np.float32)
    for row in values:
        out = kernels.attention(runnable_isa, zeros, zeros, row[None], 1.0, True, [1])
        np.testing.assert_array_equal(out[0], row)


def test_attention_sees_no_later_position(runnable_isa: str) -> None:
    q, k, v = attention_inputs(65, 40)
    before = kernels.attention(runnable_isa, q, k, v, 0.2, False, [65])
    k[40:], v[40:] = np.float32(1e30), np.float32(1e30)
    assert_same_bits(kernels.attention(runnable_isa, q, k, v, 0.2, False, [65])[:40], before[:40])


# Norm, activations, exp


def layer_norm_bound(x: F32, gain: F32, bias: F32, eps: float) -> np.ndarray:
    """x − mean is off by the mean's roundings: n/16 in a lane, 4 in the tree, few more.

    Dividing by σ carries that over, and σ itself is off by as much again.
    """
    wide = x.astype(np.float64)
    sigma = math.sqrt(wide.var() + eps)
    roundings = len(x) / 16 + 8
    centred = roundings * U * np.abs(wide).max() / sigma
    y = np.abs(wide - wide.mean()) / sigma
    return (1 + y) * (2 * centred + 2 * roundings * U) * np.abs(gain) + 2 * U * (
        y * np.abs(gain) + np.abs(bias)
    )


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_layer_norm_is_the_formula(runnable_isa: str, mean: float) -> None:
    for n, offset in [
        *itertools.product(range(1, 50), (0, 1)),
        *itertools.product((40, 768), range(16)),
        (1023, 3),
    ]:
        x = poisoned(normal(n, n) + np.float32(mean), offset)
        gain, bias = poisoned(normal(1, n), offset + 1), poisoned(normal(2, n), 15 - offset)
        out = kernels.layer_norm(runnable_isa, x, gain, bias, 1e-5)
        expected = reference_layer_norm(x.astype(np.float64), gain, bias, float(np.float32(1e-5)))
        assert (np.abs(out - expected) <= layer_norm_bound(x, gain, bias, 1e-5)).all()
        assert_same_bits(out, kernels.layer_norm("scalar", x, gain, bias, 1e-5))


def test_layer_norm_of_a_constant_is_the_bias(runnable_isa: str) -> None:
    for n in (1, 15, 16, 17, 64):
        bias = normal(n, n)
        out = kernels.layer_norm(runnable_isa, np.full(n, 3.0, np.float32), normal(1, n), bias, 1e-5)
        np.testing.assert_array_equal(out, bias)


erf = np.vectorize(math.erf)
# The formulas in float64, and what the kernel may add to 8 roundings of x: its erf is a polynomial.
FORMULAS = {
    "gelu_new": (lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), 0.0),
    "gelu": (lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), 0.75e-7),
    "quick_gelu": (lambda x: x * expit(1.702 * x), 0.0),
    "relu": (lambda x: np.maximum(x, 0), 0.0),
    "silu": (lambda x: x * expit(x), 0.0),
    "tanh": (np.tanh, 0.0),
}
# Of a difference of numbers near 1: an error of theirs, however small the result is.
ABSOLUTE = {"tanh": 4 * U}
SYNONYMS = {"gelu_fast": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "swish": "silu"} | {
    "gelu_python": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_python_tanh": "gelu_new",
}


def test_every_activation_has_its_formula() -> None:
    assert set(_core.ACTIVATIONS) == {*FORMULAS, *SYNONYMS}
    grid = np.linspace(-8, 8, 99, dtype=np.float32)
    for synonym, name in SYNONYMS.items():
        assert_same_bits(kernels.activate("scalar", synonym, grid), kernels.activate("scalar", name, grid))


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_are_their_formulas(runnable_isa: str, name: str) -> None:
    formula, polynomial = FORMULAS[name]
    special = [0, -0.0, 1e-40, -1e-40, 1e-20, -1e-20, 5, -5, 88, -88, 100, -100, 1e4, -1e4]
    grid = np.concatenate([np.linspace(-12, 12, 2001), special]).astype(np.float32)
    out = kernels.activate(runnable_isa, name, grid)
    wide = grid.astype(np.float64)
    # x · f(z): f passes few roundings, and a relative error of z moves it by z · f'(z) < 1 times that.
    bound = np.abs(wide) * (8 * U + polynomial) + ABSOLUTE.get(name, 0.0)
    assert (np.abs(out - formula(wide)) <= bound).all()
    assert_same_bits(out, kernels.activate("scalar", name, grid))
    for n, offset in itertools.product(range(34), (0, 1, 7)):
        x = poisoned(normal(n, n), offset)
        part = kernels.activate(runnable_isa, name, x)
        alone = [kernels.activate(runnable_isa, name, x[i : i + 1])[0] for i in range(n)]
        assert_same_bits(part, np.array(alone, dtype=np.float32))


def tree_sum(x: F32) -> np.float32:
    """16 lanes, each summed in order, then halved four times."""
    lanes = np.zeros(LANES, dtype=np.float32)
    for row in np.pad(x, (0, -len(x) % LANES)).reshape(-1, LANES):
        lanes = lanes + row
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


def test_exp_is_exp(runnable_isa: str) -> None:
    x = np.concatenate([np.linspace(-87.33, 88.3, 5003), np.linspace(-1, 1, 2000)]).astype(np.float32)
    out, _ = kernels.exp_sum(runnable_isa, x, 0.0)
    expected = np.exp(x.astype(np.float64))
    # Cephes promises 2 units in the last place.
    assert (np.abs(out - expected) <= 2 * 2 * U * expected).all()
    assert_same_bits(out, kernels.exp_sum("scalar", x, 0.0)[0])


def test_exp_at_its_ends(runnable_isa: str) -> None:
    x = np.array([-np.inf, -3.4e38, -1e4, -104, -87.4, -88, 0, -0.0, 88, 88.37], dtype=np.float32)
    out, _ = kernels.exp_sum(runnable_isa, x, 0.0)
    assert not out[:6].any(), "below float32's smallest normal number there is nothing"
    assert out[6] == out[7] == 1
    assert np.isfinite(out[8:]).all() and out[8] > 1.6e38
    shifted, total = kernels.exp_sum(runnable_isa, np.float32([-3.4e38, 3.4e38]), 3.4e38)
    assert shifted.tolist() == [0, 1] and total == 1


def test_exp_sum_for_every_length_and_alignment(runnable_isa: str) -> None:
    for n, offset in [*itertools.product(range(50), (0, 1, 5)), *itertools.product((17, 33), range(16))]:
        x = poisoned(normal(n, n) * np.float32(9), offset)
        out, total = kernels.exp_sum(runnable_isa, x, 1.25)
        expected_out, expected_total = kernels.exp_sum("scalar", x, 1.25)
        assert_same_bits(out, expected_out)
        assert total == expected_total == tree_sum(out)


# The ladder


def test_every_rung_counts_the_products_of_its_peaks(runnable_isa: str) -> None:
    for peak in (kernels.peak_i8, kernels.peak_f32):
        once = peak(runnable_isa, 1)
        assert once > 0 and peak(runnable_isa, 7) == 7 * once and peak(runnable_isa, 0) == 0


def test_every_file_of_a_family_is_a_rung() -> None:
    rungs = {name for name, _, _ in _core.isa_ladder()} - {"scalar"}
    folders = (Path(__file__).parents[2] / "src" / "kernels").iterdir()
    families = [{file.stem for file in folder.glob("*.cpp")} - {"family"} for folder in folders if folder.is_dir()]
    assert rungs in [*families, set()]


def test_an_unknown_rung_is_named_with_those_that_run_here() -> None:
    with pytest.raises(BackendError, match=r"scalar.*'sse9'"):
        kernels.exp_sum("sse9", np.zeros(1, np.float32), 0.0)


def test_a_rung_that_this_cpu_lacks_is_refused() -> None:
    lacking = [name for name, _, missing in _core.isa_ladder() if missing]
    if not lacking:
        pytest.skip("this CPU runs every rung")
    for name in lacking:
        with pytest.raises(BackendError, match=name):
            kernels.exp_sum(name, np.zeros(1, np.float32), 0.0)
