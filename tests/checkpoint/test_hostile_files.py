"""What if a file of a model is no file, has no end, nests without end, names things twice, or is cut while it is read?

Each is a CheckpointError in a short sentence; nothing hangs, nothing large is taken and no signal ends the process.
"""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import entries, stored, write_folder, write_safetensors, write_shards
from dialocpp import Model
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.checkpoint.regular_file import MAX_BYTES, read_bytes, read_text
from dialocpp.checkpoint.safetensors_file import open_safetensors, safetensors_of
from dialocpp.checkpoint.torch_files.torch_file import torch_tensors
from dialocpp.errors import CheckpointError
from safetensors import SafetensorError, safe_open
from small_models import Gpt2, gpt2_config, hf_name, random_gpt2
from torch_files import CONTAINERS, PROTO, state_dict, zip_of

TEXTS = ["config.json", "generation_config.json", "tokenizer_config.json", "model.safetensors.index.json"]

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")


@pytest.fixture
def folder(tmp_path: Path, tiny: Gpt2, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sharded model with every text file, each of which a test may break, and a cache of its own."""
    monkeypatch.setenv("DIALOCPP_CACHE", str(tmp_path / "cache"))
    made = write_shards(tmp_path / "m", tiny.config, entries(tiny))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, made)
    (made / "generation_config.json").write_text("{}")
    Model.from_pretrained(made)
    return made


def refusal(load: Callable[[], Any]) -> str:
    """The sentence with which a load is refused, which is short and took little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            load()
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert len(message) < 1000 and "\n" not in message
    return message


# Text files

DEEP = {
    "lists": "[" * 1_000_000,
    "objects": '{"a":' * 300_000,
    "both": '{"a":[' * 200_000,
    "a list in a whole object": '{"a": ' + "[" * 500_000 + "]" * 500_000 + "}",
    "closed": "[" * 200_000 + "]" * 200_000,
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_json_that_nests_too_deep(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert "JSON" in refusal(lambda: Model.from_pretrained(folder))


PLACES: dict[str, Callable[[Path], Any]] = {
    "a pipe": getattr(os, "mkfifo", Path.touch),
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a device that says nothing": lambda path: path.symlink_to("/dev/null"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a terabyte of nothing": lambda path: path.touch() or os.truncate(path, 1 << 40),
}  # fmt: skip


@posix
@pytest.mark.parametrize("reader", [read_bytes, read_text, read_json_object])
@pytest.mark.parametrize("put", PLACES.values(), ids=PLACES.keys())
def test_what_is_no_file_of_a_sane_size(tmp_path: Path, put: Callable[[Path], Any], reader: Callable[..., Any]) -> None:
    path = tmp_path / "config.json"
    put(path)
    assert "; " in refusal(lambda: reader(path))


@posix
@pytest.mark.parametrize("put", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json"])
def test_such_a_thing_in_a_models_folder(folder: Path, name: str, put: Callable[[Path], Any]) -> None:
    (folder / name).unlink()
    put(folder / name)
    refusal(lambda: Model.from_pretrained(folder))


@posix
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("put", PLACES.values(), ids=PLACES.keys())
def test_such_a_thing_as_weights(tmp_path: Path, tiny: Gpt2, name: str, put: Callable[[Path], Any]) -> None:
    read = torch_tensors if name.endswith(".bin") else safetensors_of
    put(tmp_path / name)
    refusal(lambda: read(tmp_path / name))


def test_the_bound_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"x" * 100)
    assert read_bytes(path, 100) == b"x" * 100
    with pytest.raises(CheckpointError, match=r"expected at most 99 bytes in .*, found 100; "):
        read_bytes(path, 99)
    assert MAX_BYTES >= 40 << 20  # the largest tokenizer.json in use


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"  \n"])
@pytest.mark.parametrize("after", [b"", b"\n\n", b"\r\n \r\n"])
def test_a_byte_order_mark_and_blank_lines(folder: Path, before: bytes, after: bytes) -> None:
    expected = Model.from_pretrained(folder, dtype="float32").logits([1, 2, 3])
    for name in TEXTS:
        (folder / name).write_bytes(before + (folder / name).read_bytes() + after)
    np.testing.assert_array_equal(Model.from_pretrained(folder, dtype="float32").logits([1, 2, 3]), expected)


LONG: dict[str, dict[str, Any]] = {
    "a text": {"n_embd": "x" * 1_000_000},
    "a list": {"n_layer": [1] * 300_000},
    "an object": {"n_head": {str(i): i for i in range(100_000)}},
    "nested lists": {"layer_norm_epsilon": [[[0] * 100] * 100] * 100},
    "a model type": {"model_type": "t" * 1_000_000},
    "an activation": {"activation_function": "a" * 1_000_000},
    "token ids": {"eos_token_id": ["x" * 1_000_000]},
    "labels": {"architectures": ["GPT2ForSequenceClassification"], "id2label": ["y" * 1_000_000]},
    "a number of a thousand digits": {"vocab_size": 10**1000},
}  # fmt: skip


@pytest.mark.parametrize("values", LONG.values(), ids=LONG.keys())
def test_an_error_never_repeats_a_megabyte(folder: Path, values: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | values))
    assert "found" in refusal(lambda: load_checkpoint(folder))


MAPS = [{"w": "x" * 1_000_000}, {"w" * 1_000_000: "../x"}, {str(i): f"{i}.safetensors" for i in range(9999)}]


@pytest.mark.parametrize("weight_map", MAPS, ids=["a shard", "a tensor", "many shards"])
def test_an_index_of_a_megabyte(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refusal(lambda: load_checkpoint(folder))


def test_names_of_a_megabyte(tmp_path: Path, tiny: Gpt2) -> None:
    surplus = {f"transformer.h.0.{i}{'x' * 1000}": stored(np.zeros(1, np.float32)) for i in range(1000)}
    made = write_folder(tmp_path, tiny.config, entries(tiny) | surplus)
    with pytest.raises(CheckpointError, match=r"1000 surplus: .* and 988 more; use") as caught:
        load_checkpoint(made)
    assert len(str(caught.value)) < 2000


# Headers of weights


def raw_safetensors(path: Path, header: str, data: bytes) -> Path:
    path.write_bytes(len(header.encode()).to_bytes(8, "little") + header.encode() + data)
    return path


W = '"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADERS: dict[str, tuple[str, str]] = {
    "a name twice": (f"{{{W},{W}}}", "the name 'w' twice"),
    "a key twice": ('{"w":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "the name 'dtype' twice"),
    "a hole": ('{"w":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}', "at byte"),
    "an overlap": (f'{{{W},"v":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}', "at byte"),
    "a negative size": ('{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', "described in an unknown way"),
    "true as a size": ('{"w":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', "described in an unknown way"),
    "a size of 2^70": (f'{{"w":{{"dtype":"F32","shape":[{2**70}],"data_offsets":[0,4]}}}}', "in an unknown way"),
    "a product that wraps": (f'{{"w":{{"dtype":"F32","shape":[{2**40},{2**40}],"data_offsets":[0,4]}}}}', "has others"),
    "another size": ('{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}}', "of 4 bytes, where F64 (1,)"),
    "backwards": ('{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', "described in an unknown way"),
    "one offset": ('{"w":{"dtype":"F32","shape":[1],"data_offsets":[4]}}', "described in an unknown way"),
    "a number for a tensor": ('{"w":4}', "described in an unknown way"),
    "metadata of numbers": (f'{{"__metadata__":{{"a":1}},{W}}}', "metadata that is not text"),
    "a list": ("[]", "no header"),
    "too deep": ("{" + '"a":[' + "[" * 300_000, "nested too deep"),
    "a long name": (f'{{"{"n" * 200_000}":4}}', "described in an unknown way"),
}  # fmt: skip


@pytest.mark.parametrize(("header", "found"), HEADERS.values(), ids=HEADERS.keys())
def test_headers_of_safetensors(tmp_path: Path, header: str, found: str) -> None:
    path = raw_safetensors(tmp_path / "m.safetensors", header, bytes(4))
    assert found in refusal(lambda: safetensors_of(path))


def test_what_this_reader_takes_the_package_takes(tmp_path: Path) -> None:
    """Each header with one byte changed: the two readers may differ only where the package is the milder one."""
    path = write_safetensors(tmp_path / "m.safetensors", {"w": stored(np.ones((2, 3), np.float32))}, {"a": "b"})
    content = path.read_bytes()
    taken = 0
    for position in range(len(content) - 24):
        for flip in (1, 2, 16, 64):
            path.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
            try:
                _, header = open_safetensors(path)
            except CheckpointError:
                continue
            if all(entry.dtype == "F32" for entry in header.entries.values()):
                taken += 1
                with safe_open(path, framework="numpy") as theirs:
                    assert set(theirs.keys()) == set(header.entries)
    assert taken > 10
    with pytest.raises(SafetensorError):
        path.write_bytes(content[:-1])
        safe_open(path, framework="numpy").__enter__()


FRAMES = [0, 1, 2**16, 2**31, 2**63]


@pytest.mark.parametrize("size", FRAMES)
def test_a_frame_longer_than_the_file(tmp_path: Path, size: int) -> None:
    frame = b"\x95" + size.to_bytes(8, "little")
    pickled = PROTO + frame + state_dict({}).removeprefix(PROTO)
    (tmp_path / "m.bin").write_bytes(zip_of({"m/data.pkl": pickled}))
    found = refusal(lambda: torch_tensors(tmp_path / "m.bin"))
    assert ("an empty dict" if size < 2 else "a frame that is longer than itself") in found


def test_a_changed_number_in_a_zip_is_found(tmp_path: Path, tiny: Gpt2) -> None:
    content = bytearray(CONTAINERS["zip"]({hf_name(name): array for name, array in tiny.tensors.items()}))
    at = content.find(tiny.tensors["h.1.mlp.c_fc.weight"].tobytes()) + 5
    content[at] ^= 1
    made = write_folder(tmp_path, tiny.config, {})
    (made / "model.safetensors").unlink()
    (made / "pytorch_model.bin").write_bytes(content)
    assert "expected numbers with the CRC-32" in refusal(lambda: load_checkpoint(made))


# Files that are cut while they are read

_CUT = """
import os, sys
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.packed import pack
from dialocpp.errors import CheckpointError
path, when, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
linear, calls = pack._linear, 0
def cutting(*arguments):
    global calls
    calls += 1
    if calls == when:
        os.truncate(path, length)
    return linear(*arguments)
pack._linear = cutting
try:
    load_checkpoint(os.path.dirname(path))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["safetensors", *CONTAINERS])
@pytest.mark.parametrize(("when", "part"), [(1, 0.0), (1, 0.5), (2, 0.01), (3, 0.3), (5, 0.0)])
def test_a_file_that_is_cut_while_it_is_packed(tmp_path: Path, kind: str, when: int, part: float) -> None:
    gpt2 = random_gpt2(gpt2_config(vocab_size=5000, n_embd=160, n_layer=3))
    made = write_folder(tmp_path, gpt2.config, entries(gpt2))
    path = made / "model.safetensors"
    if kind != "safetensors":
        path.unlink()
        path = made / "pytorch_model.bin"
        path.write_bytes(CONTAINERS[kind]({hf_name(name): array for name, array in gpt2.tensors.items()}))
    length = str(int(path.stat().st_size * part))
    done = subprocess.run(
        [sys.executable, "-c", _CUT, str(path), str(when), length], capture_output=True, text=True, check=True
    )
    assert "found that it was cut short while it was read; load it again" in done.stdout
