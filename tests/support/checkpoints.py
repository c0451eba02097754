"""How do tests make safetensors files, right and wrong ones, and how do they read packed weights back?"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dialocpp.checkpoint.safetensors_file import safetensors_of
from dialocpp.checkpoint.stored_tensor import StoredTensor
from numpy.typing import NDArray
from small_models import Gpt2, hf_name

Stored = tuple[str, tuple[int, ...], bytes]

_NAMES = {"float32": "F32", "float16": "F16", "uint8": "U8", "int64": "I64", "bool": "BOOL", "int8": "I8"}


def stored(array: NDArray[Any]) -> Stored:
    """An array as a safetensors entry: dtype, shape, bytes."""
    return _NAMES[array.dtype.name], array.shape, array.tobytes()


def stored_bf16(array: NDArray[np.float32]) -> Stored:
    """The same in bfloat16, by cutting the lower half of each number off."""
    return "BF16", array.shape, (array.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def write_safetensors(
    path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None
) -> Path:
    """A safetensors file, written by hand so that a test can put anything into it."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entries(gpt2: Gpt2) -> dict[str, Stored]:
    """A model's tensors in float32 under the names of a GPT2LMHeadModel."""
    return {hf_name(name): stored(tensor) for name, tensor in gpt2.tensors.items()}


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Path:
    """A folder with config.json and model.safetensors."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_shards(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Path:
    """A folder with config.json, two shards and their index."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    shards = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for shard in set(shards.values()):
        write_safetensors(folder / shard, {name: tensors[name] for name in tensors if shards[name] == shard})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return folder


def stored_tensors(gpt2: Gpt2) -> dict[str, StoredTensor]:
    """A model's tensors in float32 in a file, under the core's names; the file goes when they go."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        return safetensors_of(write_safetensors(path, {name: stored(array) for name, array in gpt2.tensors.items()}))


def unpacked_f32(packed: NDArray[Any], K: int, N: int) -> NDArray[Any]:
    """(N/16, K, 16) -> (K, N)"""
    return packed.transpose(1, 0, 2).reshape(K, -1)[:, :N]


def unpacked_i8(packed: NDArray[Any], K: int, N: int) -> NDArray[Any]:
    """(N/16, K/4, 16, 4) -> (K, N)"""
    blocks, groups = packed.shape[:2]
    return packed.transpose(1, 3, 0, 2).reshape(groups * 4, blocks * 16)[:K, :N]
