"""Is tests/support/reference.py GPT-2? Its logits against transformers; the int8 truths against their definitions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import gpt2_logits
from reference_int8 import channel_sums, linear, matmul, pack_f32, pack_i8, quantize_channels, quantize_rows
from safetensors.numpy import load_file
from small_models import VARIANTS, Gpt2, gpt2_config, hf_name, random_gpt2
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

TOLERANCE = 1e-4  # on logits, absolute: the project's promise


def torch_logits(model: Any, ids: list[int]) -> np.ndarray:
    """(T, V)"""
    torch.set_num_threads(1)  # two wait for each other when the machine is busy
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def transformers_model(gpt2: Gpt2) -> GPT2LMHeadModel:
    model = GPT2LMHeadModel(GPT2Config(**gpt2.config)).eval()
    state = {hf_name(name): torch.from_numpy(tensor) for name, tensor in gpt2.tensors.items()}
    absent = model.load_state_dict(state, strict=False)
    assert not absent.unexpected_keys
    assert set(absent.missing_keys) <= {"lm_head.weight"}  # tied
    return model


def unprefixed(path: Path) -> dict[str, np.ndarray]:
    return {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_transformers(changes: dict[str, Any], dtype: type) -> None:
    gpt2 = random_gpt2(gpt2_config(**changes), seed=3)
    ids = np.random.default_rng(4).integers(0, 97, 64).tolist()  # all positions that the model has
    expected = torch_logits(transformers_model(gpt2), ids)
    logits = gpt2_logits(gpt2.config, gpt2.tensors, ids, dtype)
    assert logits.dtype == dtype
    np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE)


# Upcasting matters below float32 only; the other three are one function under three names.
SAME_AS_PLAIN = {"plain", "upcast attention", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"}


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - SAME_AS_PLAIN))
def test_every_variant_computes_something_of_its_own(name: str) -> None:
    """Else agreeing with transformers would prove nothing about the setting."""
    ids = list(range(20))
    varied, plain = (random_gpt2(gpt2_config(**changes), seed=3) for changes in (VARIANTS[name], {}))
    logits, plain_logits = (gpt2_logits(gpt2.config, gpt2.tensors, ids) for gpt2 in (varied, plain))
    assert np.abs(logits - plain_logits).max() > 10 * TOLERANCE


def test_takes_a_transformers_config_object(tiny: Gpt2) -> None:
    ids = [1, 2, 3]
    from_object = gpt2_logits(GPT2Config(**tiny.config), tiny.tensors, ids)
    np.testing.assert_array_equal(from_object, gpt2_logits(tiny.config, tiny.tensors, ids))


def test_no_position_sees_a_later_one(tiny: Gpt2) -> None:
    one, other = [5, 6, 7, 8, 9, 10], [5, 6, 7, 80, 90, 11]
    a, b = (gpt2_logits(tiny.config, tiny.tensors, ids) for ids in (one, other))
    np.testing.assert_allclose(a[:3], b[:3], rtol=0, atol=1e-12)
    assert np.abs(a[3:] - b[3:]).max(axis=1).min() > 0.01


def test_the_demo_model(shared: Path) -> None:
    folder = shared / "models" / "demo"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = np.random.default_rng(5).integers(0, 8192, 256).tolist()
    config = json.loads((folder / "config.json").read_text())
    logits = gpt2_logits(config, unprefixed(folder / "model.safetensors"), ids, np.float32)
    np.testing.assert_allclose(logits, torch_logits(model, ids), rtol=0, atol=TOLERANCE)


def test_the_shape_of_dialogpt_small(small_shape_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(small_shape_folder, dtype=torch.float32)
    ids = [15496, 11, 703, 389, 345, 30, 50256]
    config = json.loads((small_shape_folder / "config.json").read_text())
    logits = gpt2_logits(config, unprefixed(small_shape_folder / "model.safetensors"), ids, np.float32)
    np.testing.assert_allclose(logits, torch_logits(model, ids), rtol=0, atol=TOLERANCE)


@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    st.sampled_from([-3.0, 0.0, 2.0]),
)
@settings(deadline=None, max_examples=60)
def test_quantised_rows_are_within_half_a_step(M: int, K: int, seed: int, size: float, centre: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((M, K))
    x = ((noise + centre) * size).astype(np.float32)
    q, scale, zero = quantize_rows(x)
    bytes_ = np.column_stack([q, zero])
    assert (bytes_.min(axis=1) <= 1).all() and (bytes_.max(axis=1) >= 254).all()  # the whole range is used
    step = scale.astype(np.float64)[:, None]
    # Half a step, and float32's rounding of x / step.
    assert (np.abs((q - zero[:, None]) * step - x) <= 0.5001 * step).all()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1.0, 1e30]))
@settings(deadline=None, max_examples=40)
def test_quantised_channels_are_within_half_a_step(K: int, N: int, seed: int, size: float) -> None:
    weight = (np.random.default_rng(seed).standard_normal((K, N)) * size).astype(np.float32)
    q, scale = quantize_channels(weight)
    assert np.abs(q.astype(int)).max(axis=0).tolist() == [127] * N
    step = scale.astype(np.float64)
    assert (np.abs(q * step - weight) <= 0.5001 * step).all()


def test_silent_rows_and_channels_are_zero() -> None:
    x = np.array([[0, 0, 0], [1e-36, -1e-38, 0]], dtype=np.float32)
    q, scale, zero = quantize_rows(x)
    assert not q.any() and not scale.any() and not zero.any()
    q_channels, channel_scale = quantize_channels(x.T)
    assert not q_channels.any() and not channel_scale.any()


def test_halves_go_to_the_even_neighbour_and_ends_stay_bytes() -> None:
    x = np.array([[-127.5, 0, 127.5, 0.5, 1.5], [0, 0, 255, 2.5, 3.5]], dtype=np.float32)
    q, scale, zero = quantize_rows(x)
    assert scale.tolist() == [1, 1] and zero.tolist() == [128, 0]
    assert q.tolist() == [[0, 128, 255, 128, 130], [0, 0, 255, 2, 4]]  # 128 + 128 saturates to 255
    weight = np.array([[-127], [63.5], [62.5]], dtype=np.float32)
    assert quantize_channels(weight)[0][:, 0].tolist() == [-127, 64, 62]


def test_the_product_is_exact_and_takes_the_zero_off() -> None:
    K = 8192  # 255 · 127 · K leaves float32's exact integers and still fits int32
    qa, qw = np.full((2, K), 255, dtype=np.uint8), np.full((K, 1), -127, dtype=np.int8)
    qa[0, 0] = 254
    zero = np.array([0, 3])
    assert matmul(qa, zero, qw)[:, 0].tolist() == [-127 * (255 * K - 1), -127 * 252 * K]
    raw = qa.astype(np.int64) @ qw.astype(np.int64)
    np.testing.assert_array_equal(raw - np.outer(zero, channel_sums(qw)), matmul(qa, zero, qw))


def test_the_int8_linear_is_near_the_float_one() -> None:
    rng = np.random.default_rng(7)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 96), (96, 20)))
    bias = rng.standard_normal(20).astype(np.float32)
    error = linear(x, weight, bias) - (x @ weight + bias)
    # Rounding x and w each adds noise of step/√12 to every product: about 1 % of the output's spread.
    assert 0 < error.std() < 0.02 * (x @ weight).std()


@pytest.mark.parametrize(("K", "N"), [(1, 1), (4, 16), (5, 17), (40, 97), (3, 32)])
def test_packed_layouts(K: int, N: int) -> None:
    weight = np.random.default_rng(8).standard_normal((K, N)).astype(np.float32)
    q = np.random.default_rng(9).integers(-127, 128, (K, N)).astype(np.int8)
    blocks, groups = -(-N // 16), -(-K // 4)
    floats, bytes_ = pack_f32(weight), pack_i8(q)
    assert floats.shape == (blocks, K, 16)
    assert bytes_.shape == (blocks, groups, 16, 4)
    for n in range(16 * blocks):
        for k in range(4 * groups):
            inside = n < N and k < K
            assert bytes_[n // 16, k // 4, n % 16, k % 4] == (q[k, n] if inside else 0)
            if k < K:
                assert floats[n // 16, k, n % 16] == (weight[k, n] if inside else 0)
