"""Are packed weights the same numbers in another order, and does folding leave the function as it was?"""

from pathlib import Path

import numpy as np
import pytest
from checkpoints import entries, stored, stored_tensors, unpacked_f32, unpacked_i8, write_folder
from dialocpp import _core
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.files import weight_files
from dialocpp.checkpoint.packed.folding import fold_scales
from dialocpp.checkpoint.packed.pack import Array, packed_table, packed_tensors, pad_lanes
from dialocpp.checkpoint.source import read_source
from dialocpp.errors import CheckpointError
from small_models import Gpt2, gpt2_config, random_gpt2

_CODES = {"F32": np.float32, "I8": np.int8, "I32": np.int32}


@pytest.fixture(scope="module")
def untied() -> Gpt2:
    return random_gpt2(gpt2_config(tie_word_embeddings=False, n_inner=50), seed=3)


def packed(gpt2: Gpt2, dtype: str) -> dict[str, Array]:
    return dict(packed_tensors(ModelConfig.from_dict(gpt2.config), stored_tensors(gpt2), dtype))


def specs(gpt2: Gpt2) -> list[_core.TensorSpec]:
    return _core.tensor_table(ModelConfig.from_dict(gpt2.config).to_core())


def linears(gpt2: Gpt2) -> list[tuple[str, np.ndarray]]:
    """Name and weight as (K, N) of every linear layer."""
    return [
        (spec.name, gpt2.tensors[spec.name] if spec.kind == "conv1d" else gpt2.tensors[spec.name].T)
        for spec in specs(gpt2)
        if spec.kind in ("conv1d", "linear")
    ]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_table_says_what_is_yielded(untied: Gpt2, dtype: str) -> None:
    config = ModelConfig.from_dict(untied.config)
    arrays = list(packed_tensors(config, stored_tensors(untied), dtype))
    table = packed_table(config, dtype)
    assert [name for name, _ in arrays] == list(table)
    for name, array in arrays:
        code, shape = table[name]
        assert (array.dtype, array.shape) == (_CODES[code], shape), name
        assert array.flags.c_contiguous and array.nbytes % 64 == 0, name


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_core_accepts_it(untied: Gpt2, dtype: str) -> None:
    tensors = packed(untied, dtype)
    model = _core.Weights(ModelConfig.from_dict(untied.config).to_core(), tensors)
    assert model.weight_bytes == sum(array.nbytes for array in tensors.values())


def test_float32_is_the_same_numbers_and_zeros(untied: Gpt2) -> None:
    tensors = packed(untied, "float32")
    for name, weight in linears(untied):
        np.testing.assert_array_equal(unpacked_f32(tensors[name], *weight.shape), weight)
    for spec in specs(untied):
        if spec.kind in ("vector", "table"):
            width = spec.shape[-1]
            np.testing.assert_array_equal(tensors[spec.name][..., :width], untied.tensors[spec.name])
            assert not tensors[spec.name][..., width:].any()


def test_int8_is_the_folded_weights_to_half_a_step(untied: Gpt2) -> None:
    tensors = packed(untied, "int8")
    for name, weight in linears(untied):
        K, N = weight.shape
        scale, total = tensors[f"{name}_scale"][:N], tensors[f"{name}_sum"][:N]
        q = unpacked_i8(tensors[name], K, N).astype(np.int32)
        np.testing.assert_array_equal(total, q.sum(axis=0))
        folded = weight
        for norm, reader in (("ln_1", "attn.c_attn.weight"), ("ln_2", "mlp.c_fc.weight")):
            if name.endswith(reader):
                gain = name.removesuffix(reader) + f"{norm}.weight"
                factor = untied.tensors[gain] / tensors[gain][: len(untied.tensors[gain])]
                folded = weight * factor[:, None]
        assert (np.abs(q * scale - folded) <= scale * 0.501).all(), name


def test_int8_only_moves_scales_between_a_norm_and_its_reader(untied: Gpt2) -> None:
    plain, folded = packed(untied, "float32"), packed(untied, "int8")
    for spec in specs(untied):
        moved = spec.name.split(".")[-2] in ("ln_1", "ln_2")
        if spec.kind in ("vector", "table"):
            assert np.array_equal(plain[spec.name], folded[spec.name]) != moved, spec.name


def test_packing_is_deterministic(untied: Gpt2) -> None:
    first, second = packed(untied, "int8"), packed(untied, "int8")
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["h.1.mlp.c_proj.weight", "ln_f.bias", "h.0.ln_1.weight"])
def test_weights_that_are_not_finite(tmp_path: Path, tiny: Gpt2, dtype: str, value: float, name: str) -> None:
    broken = tiny.tensors[name].copy()
    broken.flat[3] = value
    folder = write_folder(tmp_path, tiny.config, entries(tiny) | {f"transformer.{name}": stored(broken)})
    config, source = read_source(weight_files(folder), ModelConfig.from_file(folder / "config.json"))
    with pytest.raises(CheckpointError, match=f"expected finite numbers in {name}, found NaN or infinity"):
        list(packed_tensors(config, source, dtype))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 40])
def test_pad_lanes(width: int) -> None:
    array = np.arange(2 * width, dtype=np.int32).reshape(2, width)
    padded = pad_lanes(array)
    assert padded.shape == (2, -(-width // 16) * 16) and padded.dtype == np.int32
    np.testing.assert_array_equal(padded[:, :width], array)
    assert not padded[:, width:].any()


def norm_and_reader(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A LayerNorm (K,) twice and a weight (K, N), with a channel that stands out in each."""
    rng = np.random.default_rng(seed)
    gain, bias = rng.standard_normal((2, 48)).astype(np.float32)
    weight = rng.standard_normal((48, 20)).astype(np.float32)
    gain[5] *= 100
    weight[9] *= 1000
    return gain, bias, weight


def test_folding_does_not_change_the_function() -> None:
    gain, bias, weight = norm_and_reader()
    s = fold_scales(gain, bias, weight)
    assert s.dtype == np.float32 and (s > 0).all()
    z = np.random.default_rng(1).standard_normal((7, 48))
    before = (z * gain + bias) @ weight.astype(np.float64)
    after = (z * (gain / s) + bias / s) @ (weight * s[:, None]).astype(np.float64)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-4)


def test_folding_gives_both_sides_the_same_size() -> None:
    gain, bias, weight = norm_and_reader()
    s = fold_scales(gain, bias, weight).astype(np.float64)
    ratio = np.hypot(gain, bias) / s / (np.abs(weight).max(axis=1) * s)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    np.testing.assert_allclose(np.log(s).mean(), 0, atol=1e-6)


def test_folding_makes_int8_better_where_channels_stand_out() -> None:
    gain, bias, weight = norm_and_reader()
    x = np.random.default_rng(2).standard_normal((200, 48)) * gain + bias

    def rounded(values: np.ndarray, axis: int) -> np.ndarray:
        step = np.abs(values).max(axis=axis, keepdims=True) / 127
        return np.rint(values / step) * step

    def error(s: np.ndarray) -> float:
        exact = x @ weight
        return float(np.square(rounded(x / s, 1) @ rounded(weight * s[:, None], 0) - exact).mean())

    assert error(fold_scales(gain, bias, weight)) < 0.2 * error(np.ones(48))


def test_folding_leaves_dead_channels_alone() -> None:
    gain, bias, weight = norm_and_reader()
    gain[3] = bias[3] = 0
    weight[4] = 0
    s = fold_scales(gain, bias, weight)
    assert s[3] == 1 and s[4] == 1 and np.isfinite(s).all()
    np.testing.assert_array_equal(fold_scales(gain * 0, bias * 0, weight), np.ones(48, np.float32))
