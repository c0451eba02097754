"""Are the tensors of every kind of GPT-2 checkpoint found, and is each way a file can be wrong named?"""

import gc
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import Stored, entries, stored, stored_bf16, write_folder, write_safetensors, write_shards
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.files import shard_names, weight_files
from dialocpp.checkpoint.mapped import map_safetensors
from dialocpp.checkpoint.source import read_source
from dialocpp.checkpoint.stored_tensor import StoredTensor
from dialocpp.errors import CheckpointError, CheckpointWarning
from small_models import Gpt2, gpt2_config, random_gpt2


def read(folder: Path) -> tuple[ModelConfig, dict[str, StoredTensor]]:
    return read_source(weight_files(folder), ModelConfig.from_file(folder / "config.json"))


def assert_same(found: dict[str, StoredTensor], gpt2: Gpt2) -> None:
    assert found.keys() == gpt2.tensors.keys()
    for name, tensor in gpt2.tensors.items():
        np.testing.assert_array_equal(found[name].float32(), tensor)


def test_names_with_the_prefix(tmp_path: Path, tiny: Gpt2) -> None:
    assert_same(read(write_folder(tmp_path, tiny.config, entries(tiny)))[1], tiny)


def test_names_without_the_prefix(tmp_path: Path, tiny: Gpt2) -> None:
    plain = {name: stored(tensor) for name, tensor in tiny.tensors.items()}
    assert_same(read(write_folder(tmp_path, tiny.config, plain))[1], tiny)


@pytest.mark.parametrize(
    ("store", "tolerance"),
    [(lambda t: stored(t.astype(np.float16)), 2e-3), (stored_bf16, 8e-3)],
    ids=["F16", "BF16"],
)
def test_half_precision(tmp_path: Path, tiny: Gpt2, store: Callable[..., Stored], tolerance: float) -> None:
    folder = write_folder(
        tmp_path, tiny.config, {name: store(tensor) for name, tensor in tiny.tensors.items()}
    )
    for name, tensor in read(folder)[1].items():
        assert tensor.float32().dtype == np.float32
        np.testing.assert_allclose(tensor.float32(), tiny.tensors[name], rtol=tolerance, atol=1e-6)


def test_shards(tmp_path: Path, tiny: Gpt2) -> None:
    assert_same(read(write_shards(tmp_path, tiny.config, entries(tiny)))[1], tiny)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, np.bool_, np.int64])
def test_masks_are_dropped_whatever_their_dtype(tmp_path: Path, tiny: Gpt2, dtype: type[np.generic]) -> None:
    mask = stored(np.ones((1, 1, 64, 64), dtype=dtype))
    surplus = {f"transformer.h.{layer}.attn.bias": mask for layer in range(2)}
    surplus["transformer.h.1.attn.masked_bias"] = ("F8_E4M3", (), b"\0")
    assert_same(read(write_folder(tmp_path, tiny.config, entries(tiny) | surplus))[1], tiny)


def test_second_head_is_dropped(tmp_path: Path, tiny: Gpt2) -> None:
    head = {"multiple_choice_head.summary.weight": stored(np.ones((1, 40), np.float32))}
    assert_same(read(write_folder(tmp_path, tiny.config, entries(tiny) | head))[1], tiny)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_head_equal_to_the_embedding_is_shared(
    tmp_path: Path, tiny: Gpt2, tied: bool, dtype: type[np.floating]
) -> None:
    wte = tiny.tensors["wte.weight"].astype(np.float16).astype(np.float32)
    gpt2 = Gpt2(tiny.config | {"tie_word_embeddings": tied}, tiny.tensors | {"wte.weight": wte})
    folder = write_folder(
        tmp_path, gpt2.config, entries(gpt2) | {"lm_head.weight": stored(wte.astype(dtype))}
    )
    config, tensors = read(folder)
    assert config.tie_word_embeddings
    assert_same(tensors, gpt2)


def test_untied_head_is_kept(tmp_path: Path) -> None:
    gpt2 = random_gpt2(gpt2_config(tie_word_embeddings=False))
    config, tensors = read(write_folder(tmp_path, gpt2.config, entries(gpt2)))
    assert not config.tie_word_embeddings
    assert_same(tensors, gpt2)


def test_head_that_is_tied_in_the_config_only(tmp_path: Path, tiny: Gpt2) -> None:
    head = {"lm_head.weight": stored(tiny.tensors["wte.weight"] + 1)}
    folder = write_folder(tmp_path, tiny.config, entries(tiny) | head)
    with pytest.warns(CheckpointWarning, match=r'lm_head.weight to equal wte.weight.*"tie_word_embeddings" to false'):
        config, tensors = read(folder)
    assert not config.tie_word_embeddings
    np.testing.assert_array_equal(tensors["lm_head.weight"].float32(), tiny.tensors["wte.weight"] + 1)


def test_everything_wrong_is_in_one_error(tmp_path: Path, tiny: Gpt2) -> None:
    tensors = entries(tiny)
    del tensors["transformer.ln_f.bias"], tensors["transformer.h.1.ln_1.weight"]
    tensors["transformer.h.0.adapter.weight"] = stored(np.ones((1, 40), np.float32))
    tensors["transformer.wpe.weight"] = stored(np.ones((65, 40), np.float32))
    tensors["transformer.ln_f.weight"] = stored(np.ones(40, np.int64))
    with pytest.raises(CheckpointError) as caught:
        read(write_folder(tmp_path, tiny.config, tensors))
    message = str(caught.value)
    assert "2 missing: h.1.ln_1.weight (40,), ln_f.bias (40,)" in message
    assert "1 surplus: h.0.adapter.weight (1, 40)" in message
    assert "1 misshaped: wpe.weight (expected (64, 40), found (65, 40))" in message
    assert "1 of a type other than F32, F16, BF16, F64: ln_f.weight I64" in message
    assert message.endswith("; use the config.json that belongs to these weights")


def test_untied_config_without_a_head(tmp_path: Path, tiny: Gpt2) -> None:
    folder = write_folder(tmp_path, tiny.config | {"tie_word_embeddings": False}, entries(tiny))
    with pytest.raises(CheckpointError, match=r"1 missing: lm_head.weight \(97, 40\)"):
        read(folder)


def test_tensor_with_and_without_the_prefix(tmp_path: Path, tiny: Gpt2) -> None:
    twice = {"ln_f.bias": stored(np.ones(40, np.float32))}
    with pytest.raises(CheckpointError, match=r"expected one tensor ln_f\.bias, found it twice"):
        read(write_folder(tmp_path, tiny.config, entries(tiny) | twice))


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/model.safetensors",
        "..\\m.safetensors",
        "c:m.safetensors",
        "a.bin",
        5,
        None,
    ],
)
def test_shard_that_leaves_the_folder(tmp_path: Path, name: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    with pytest.raises(
        CheckpointError, match=r"plain name of a \.safetensors file beside it for wte\.weight"
    ):
        shard_names(index)


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": ["a"]}])
def test_index_without_a_weight_map(tmp_path: Path, content: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected a weight_map from tensors to files, found none"):
        weight_files(tmp_path)


def test_missing_shard(tmp_path: Path, tiny: Gpt2) -> None:
    folder = write_shards(tmp_path, tiny.config, entries(tiny))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"every shard of .*, found no model-00002-of-00002\.safetensors"
    ):
        weight_files(folder)


def test_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "training_args.bin").touch()
    with pytest.raises(CheckpointError, match="found none of them"):
        weight_files(tmp_path)


@pytest.mark.parametrize("length", [0, 5, 8, 100, -1])
def test_file_cut_short(tmp_path: Path, tiny: Gpt2, length: int) -> None:
    path = write_folder(tmp_path, tiny.config, entries(tiny)) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(
        CheckpointError, match=r"a whole safetensors file .*, found one that is damaged or cut short"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip file, as torch writes it" * 9,
        (1 << 62).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"null",
        (2).to_bytes(8, "little") + b"{}" + b"data that no tensor owns",
        (1_000_000).to_bytes(8, "little") + b'{"a":' + b"[" * 999_995,
    ],
)
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        map_safetensors(path)


@pytest.mark.parametrize("offsets", [(0, 8), (4, 20), (0, 15)])
def test_offsets_that_do_not_fit(tmp_path: Path, offsets: tuple[int, int]) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": offsets}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        map_safetensors(path)


def test_git_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 351265583\n")
    with pytest.raises(CheckpointError, match="found a git-lfs pointer to it; download it again"):
        map_safetensors(path)


def test_mapped_arrays_are_read_only_views_that_keep_the_mapping_alive(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = write_safetensors(tmp_path / "a.safetensors", {"a": stored(values)}, {"key": "value"})
    file = map_safetensors(path)
    array = file.tensors["a"].array
    assert file.metadata == {"key": "value"}
    assert type(array) is np.ndarray
    assert not array.flags.writeable and not array.flags.owndata
    path.unlink()
    del file
    gc.collect()
    np.testing.assert_array_equal(array, values)
