"""Do these files hold exactly the tensors of the GPT-2 that the config describes?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dialocpp import _core
from dialocpp.errors import CheckpointError

from .config import ModelConfig
from .mapped import FLOATS, StoredTensor, map_safetensors
from .torch_files.torch_file import map_torch

# A model trained on several GPUs is saved inside of a `module`; Microsoft's own .pkl files nest the head.
_PREFIXES = ("module.", "transformer.")
_RENAMED = {"lm_head.decoder.weight": "lm_head.weight"}

# Causal masks, which some versions of transformers stored as weights in whatever dtype was at hand, and the
# second head of GPT2DoubleHeadsModel: neither takes part in the next token's probability.
_DROPPED = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|multiple_choice_head\..*")

_COMPARED_ROWS = 1024  # of two embeddings, at a time

Tensors = dict[str, StoredTensor]


def read_source(files: Iterable[Path], config: ModelConfig) -> tuple[ModelConfig, Tensors]:
    """The config with its head's tying resolved, and the checked tensors under the core's names.

    CheckpointError lists everything that is missing, surplus or misshaped, with what was expected and found.
    """
    files = list(files)
    tensors = _named_as_in_core(files)
    config = _resolve_tied_head(config, tensors, files[0].parent)
    problems = _differences(config, tensors)
    if problems:
        raise CheckpointError(
            f"{files[0].parent}: expected the tensors of the GPT-2 that config.json describes, found "
            f"{'; '.join(problems)}; use the config.json that belongs to these weights"
        )
    return config, tensors


def _named_as_in_core(files: list[Path]) -> Tensors:
    """The tensors of all files without the prefix and without what is dropped."""
    tensors: Tensors = {}
    for file in files:
        for stored_name, tensor in tensors_of(file).items():
            name = _plain_name(stored_name)
            if _DROPPED.fullmatch(name):
                continue
            if name in tensors:
                raise CheckpointError(
                    f"{file.parent}: expected one tensor {name}, found it twice; "
                    "remove the file that does not belong here"
                )
            tensors[name] = tensor
    return tensors


def is_dropped(stored_name: str) -> bool:
    """Whether a tensor of the file takes no part in the next token's probability."""
    return _DROPPED.fullmatch(_plain_name(stored_name)) is not None


def tensors_of(file: Path) -> Mapping[str, StoredTensor]:
    """All that lies in a weight file, under the names that it has there."""
    return map_safetensors(file).tensors if file.suffix == ".safetensors" else map_torch(file)


def _plain_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _RENAMED.get(name, name)


def _resolve_tied_head(config: ModelConfig, tensors: Tensors, folder: Path) -> ModelConfig:
    """Drop an lm_head that is a copy of wte; a config that ties two different tensors is refused."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("wte.weight")
    if head is None or embedding is None:
        return config
    if _same(head, embedding):
        del tensors["lm_head.weight"]
        return replace(config, tie_word_embeddings=True)
    if config.tie_word_embeddings and head.shape == embedding.shape:
        raise CheckpointError(
            f"{folder}: expected lm_head.weight to equal wte.weight as config.json ties them, found another; "
            'set "tie_word_embeddings": false in config.json if the head is meant to be its own'
        )
    return config


def _same(one: StoredTensor, other: StoredTensor) -> bool:
    if one.shape != other.shape or not one.shape or {one.dtype, other.dtype} - set(FLOATS):
        return False
    pairs = zip(one.parts(_COMPARED_ROWS), other.parts(_COMPARED_ROWS), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _differences(config: ModelConfig, tensors: Tensors) -> list[str]:
    """What is wrong, one phrase for each kind of difference."""
    expected = {spec.name: spec.shape for spec in _core.tensor_table(config.to_core())}
    kinds = {
        "missing": [f"{name} {shape}" for name, shape in expected.items() if name not in tensors],
        "surplus": [f"{name} {tensor.shape}" for name, tensor in tensors.items() if name not in expected],
        "misshaped": [
            f"{name} (expected {expected[name]}, found {tensor.shape})"
            for name, tensor in tensors.items()
            if name in expected and tensor.shape != expected[name]
        ],
        f"of a type other than {', '.join(FLOATS)}": [
            f"{name} {tensor.dtype}"
            for name, tensor in tensors.items()
            if name in expected and tensor.dtype not in FLOATS
        ],
    }
    return [f"{len(names)} {kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
