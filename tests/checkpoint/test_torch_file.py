"""Are torch files of every kind that users have read to equal values, and damaged ones never half read?"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.files import weight_files
from dialocpp.checkpoint.source import read_source
from dialocpp.checkpoint.stored_tensor import StoredTensor
from dialocpp.checkpoint.torch_files.torch_file import torch_tensors
from dialocpp.errors import CheckpointError
from small_models import Gpt2, gpt2_config, hf_name, random_gpt2
from torch_files import CONTAINERS

BIN = "pytorch_model.bin"


@pytest.fixture(scope="module")
def micro() -> Gpt2:
    """A GPT-2 whose file has a few thousand bytes, so that each of them can be broken."""
    return random_gpt2(gpt2_config(vocab_size=3, n_positions=2, n_embd=2, n_layer=1, n_head=1, n_inner=3))


@pytest.fixture(params=list(CONTAINERS))
def container(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def torch_save(container: str) -> Callable[[Any, Path], None]:
    torch = pytest.importorskip("torch")
    return lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=container == "zip")


def folder_of(gpt2: Gpt2, folder: Path, content: bytes, file: str = BIN) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(gpt2.config))
    (folder / file).write_bytes(content)
    return folder


def named(gpt2: Gpt2) -> dict[str, np.ndarray]:
    return {hf_name(name): array for name, array in gpt2.tensors.items()}


def read(folder: Path) -> tuple[ModelConfig, dict[str, StoredTensor]]:
    return read_source(weight_files(folder), ModelConfig.from_file(folder / "config.json"))


def assert_holds(folder: Path, gpt2: Gpt2) -> None:
    _, found = read(folder)
    assert found.keys() == gpt2.tensors.keys()
    for name, array in gpt2.tensors.items():
        np.testing.assert_array_equal(found[name].float32(), array)


# Written by torch itself


@pytest.mark.parametrize(
    "dtype",
    [
        *("float32", "float16", "bfloat16", "float64", "complex64", "complex128"),
        *("uint8", "int8", "int16", "int32", "int64", "bool"),
    ],
)
def test_every_type_that_torch_saves(tmp_path: Path, torch_save: Callable[[Any, Path], None], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    values = torch.arange(24).reshape(2, 3, 4).sub(5).to(getattr(torch, dtype))
    tensors = {
        "whole": values,
        "turned": values.transpose(0, 2),
        "part of another": values[1:, ::2],
        "one number": values[0, 0, 0],
        "none at all": values[:0],
        "shared": values,
    }
    torch_save(tensors, tmp_path / "t.bin")
    found = torch_tensors(tmp_path / "t.bin")
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        raw = tensor.view(torch.int16) if dtype == "bfloat16" else tensor
        expected = raw.numpy().view(np.uint16) if dtype == "bfloat16" else raw.numpy()
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name].array, expected)
        if tensor.is_floating_point():
            np.testing.assert_array_equal(found[name].float32(), tensor.float().numpy())


@pytest.mark.parametrize("mask", ["uint8", "bool", "float16", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_model_as_it_lies_on_the_hub(
    tmp_path: Path, tiny: Gpt2, torch_save: Callable[[Any, Path], None], dtype: str, mask: str
) -> None:
    """With masks, a copy of the embedding as its head, and the `_metadata` of a module's state."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Module()
    for name, array in named(tiny).items():
        *path, leaf = name.split(".")
        inner = module
        for part in path:
            if not hasattr(inner, part):
                inner.add_module(part, torch.nn.Module())
            inner = getattr(inner, part)
        inner.register_buffer(leaf, torch.from_numpy(array.copy()).to(getattr(torch, dtype)))
    state = module.state_dict()
    state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    for layer in range(2):
        state[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=getattr(torch, mask))
        state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4, dtype=getattr(torch, dtype))
    folder = folder_of(tiny, tmp_path / "m", b"")
    torch_save(state, folder / BIN)
    config, found = read(folder)
    assert config.tie_word_embeddings and found.keys() == tiny.tensors.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.float32(), state[hf_name(name)].float().numpy())


def test_what_torch_saves_of_other_things_is_refused(tmp_path: Path, torch_save: Callable[[Any, Path], None]) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(2)
    for value, found in (
        (weight, "a pickle that is not a dict of tensors"),
        ({"epoch": 3, "name": "x"}, "a dict without tensors (of int, str)"),
        ({"a": {"b": {"w": weight}}}, "a dict without tensors (of dict)"),
        ({"net": {"w": weight}, "ema": {"w": weight}}, "several dicts of tensors, 'net', 'ema'"),
        ({"w": torch.nn.Linear(1, 1)}, "the global 'torch.nn.modules.linear.Linear'"),
        ({"w": weight.to_sparse()}, "the global 'torch._utils._rebuild_sparse_tensor'"),
        ({"w": torch.ones(1, dtype=torch.complex64).conj()}, "to be conjugated or negated"),
        ({"w": weight.to(torch.float8_e4m3fn)}, "the global 'torch._utils._rebuild_tensor_v3'"),
        ({}, "an empty dict"),
    ):
        torch_save(value, tmp_path / "t.bin")
        with pytest.raises(CheckpointError) as caught:
            torch_tensors(tmp_path / "t.bin")
        assert found in str(caught.value) and "\n" not in str(caught.value)


def test_microsofts_own_files(tmp_path: Path, torch_save: Callable[[Any, Path], None]) -> None:
    torch = pytest.importorskip("torch")
    gpt2 = random_gpt2(gpt2_config())
    state = {f"module.{name}": torch.from_numpy(array.copy()) for name, array in named(gpt2).items()}
    state["module.lm_head.decoder.weight"] = state["module.transformer.wte.weight"]
    folder = folder_of(gpt2, tmp_path / "m", b"", "small_ft.pkl")
    torch_save(state, folder / "small_ft.pkl")
    assert_holds(folder, gpt2)
    shutil.copy(folder / "small_ft.pkl", folder / "small_reverse.pkl")
    with pytest.raises(CheckpointError, match=r"found small_ft\.pkl, small_reverse\.pkl; leave one of them"):
        read(folder)


# Written by hand


def test_both_containers_by_hand(tmp_path: Path, tiny: Gpt2, container: str) -> None:
    assert_holds(folder_of(tiny, tmp_path / "m", CONTAINERS[container](named(tiny))), tiny)


def test_int8_of_a_bin_is_int8_of_safetensors(tmp_path: Path, tiny: Gpt2, tiny_folder: Path, container: str) -> None:
    theirs = load_checkpoint(tiny_folder).tensors
    ours = load_checkpoint(folder_of(tiny, tmp_path / "m", CONTAINERS[container](named(tiny)))).tensors
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_shards(tmp_path: Path, tiny: Gpt2, container: str) -> None:
    tensors = named(tiny)
    places = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(tensors)}
    folder = folder_of(tiny, tmp_path / "m", json.dumps({"weight_map": places}).encode(), f"{BIN}.index.json")
    for shard in set(places.values()):
        content = CONTAINERS[container]({name: tensors[name] for name in tensors if places[name] == shard})
        (folder / shard).write_bytes(content)
    assert_holds(folder, tiny)
    (folder / shard).unlink()
    with pytest.raises(CheckpointError, match=f"expected every shard of {BIN}.index.json, found no {shard}"):
        read(folder)


@pytest.mark.parametrize("place", ["../../pytorch_model.bin", "/etc/x.bin", "model.safetensors", 3])
def test_an_index_that_leaves_its_folder(tmp_path: Path, tiny: Gpt2, place: object) -> None:
    index = json.dumps({"weight_map": {"wte.weight": place}}).encode()
    folder = folder_of(tiny, tmp_path / "m", index, f"{BIN}.index.json")
    with pytest.raises(CheckpointError, match=r"plain name of a \.bin file beside it for wte\.weight"):
        read(folder)


def test_training_leftovers_are_never_opened(tmp_path: Path, tiny: Gpt2) -> None:
    folder = folder_of(tiny, tmp_path / "m", CONTAINERS["zip"](named(tiny)))
    for leftover in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "optimizer.bin"):
        (folder / leftover).mkdir()  # nobody can open these
    assert_holds(folder, tiny)
    (folder / BIN).unlink()
    with pytest.raises(CheckpointError, match="found none of them"):
        read(folder)


def test_safetensors_come_first(tmp_path: Path, tiny: Gpt2, tiny_folder: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "m"))
    (folder / BIN).write_bytes(b"not read")
    assert_holds(folder, tiny)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "a file cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer to it"),
        (b"<!DOCTYPE html><html>", "the pickle instruction 0x3c"),
        (b"\x80\x02K\x01.", "a pickle that is not torch's"),
        (b"PK\x03\x04 and no more", "a zip file cut short"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / BIN
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"expected weights that torch.save wrote in .*, found {found}"):
        torch_tensors(path)


# Damage


def test_every_truncation_is_refused(tmp_path: Path, micro: Gpt2, container: str) -> None:
    content = CONTAINERS[container](named(micro))
    path = folder_of(micro, tmp_path / "m", content) / BIN
    assert_holds(path.parent, micro)
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        with pytest.raises(CheckpointError):
            torch_tensors(path)


def is_refused(tensors: dict[str, StoredTensor], container: str) -> bool:
    """Whether the numbers are found to be damaged: only the newer container has checksums."""
    try:
        assert all(tensor.float32().shape == tensor.shape for tensor in tensors.values())
    except CheckpointError as error:
        assert container == "zip" and "with the CRC-32 " in str(error)
        return True
    return False


def test_a_flipped_bit_is_refused_or_changes_numbers_only(tmp_path: Path, micro: Gpt2, container: str) -> None:
    content = CONTAINERS[container](named(micro))
    path = folder_of(micro, tmp_path / "m", content) / BIN
    config = ModelConfig.from_dict(micro.config)
    shapes = {name: array.shape for name, array in micro.tensors.items()}
    refused = 0
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << position * 5 % 8]), position)
            try:
                found = read_source([path], config)[1]
            except CheckpointError as error:
                refused += 1
                assert "\n" not in str(error)
            else:
                assert {name: tensor.shape for name, tensor in found.items()} == shapes
                refused += is_refused(found, container)
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert refused > len(content) // (3 if container == "legacy" else 2)
    assert_holds(path.parent, micro)
