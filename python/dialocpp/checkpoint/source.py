"""Do these files hold exactly the tensors of the GPT-2 that the config describes?"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from dialocpp import _core
from dialocpp.errors import CheckpointError, CheckpointWarning, brief

from .config import ModelConfig
from .element_types import FLOATS
from .safetensors_file import safetensors_of
from .stored_tensor import StoredTensor, Tensors
from .tensor_names import is_inside, is_needless, plain_names
from .tied_head import resolve_tied_head, same_numbers

_NAMED = 12  # of a list in an error or a warning


def read_source(files: Iterable[Path], config: ModelConfig) -> tuple[ModelConfig, Tensors]:
    """The config with its head's tying resolved, and the checked tensors under the core's names.

    What lies beside the model is left out with one CheckpointWarning that names it. CheckpointError lists everything
    that is missing, misshaped, or surplus inside of the model, with what was expected and found.
    """
    files = list(files)
    folder = files[0].parent
    tensors = _named_as_in_core(files)
    config = resolve_tied_head(config, tensors, folder)
    _leave_out(config, tensors, folder)
    problems = _differences(config, tensors)
    if problems:
        raise CheckpointError(
            f"{folder}: expected the tensors of the GPT-2 that config.json describes, found "
            f"{'; '.join(problems)}; use the config.json that belongs to these weights"
        )
    return config, tensors


def tensors_of(file: Path) -> dict[str, StoredTensor]:
    """All that lies in a weight file, under the names that it has there."""
    if file.suffix == ".safetensors":
        return safetensors_of(file)
    from .torch_files.torch_file import torch_tensors  # here: most models need no reader of pickles, and start sooner

    return torch_tensors(file)


def _named_as_in_core(files: list[Path]) -> Tensors:
    """The tensors of all files under the core's names, without what no GPT-2 needs."""
    stored = [(file, name, tensor) for file in files for name, tensor in tensors_of(file).items()]
    plain = plain_names(name for _, name, _ in stored)
    tensors: Tensors = {}
    for file, stored_name, tensor in stored:
        name = plain[stored_name]
        if is_needless(name):
            continue
        if name in tensors and not same_numbers(tensors[name], tensor):
            raise CheckpointError(
                f"{file.parent}: expected one tensor {_cut(name)}, found it twice; "
                "remove the file that does not belong here"
            )
        tensors.setdefault(name, tensor)
    return tensors


def _leave_out(config: ModelConfig, tensors: Tensors, folder: Path) -> None:
    """Take out what lies beside a GPT-2: the head of another task, a loss's weights, positions as numbers."""
    needed = {spec.name for spec in _core.tensor_table(config.to_core())}
    beside = [name for name in tensors if name not in needed and not is_inside(name)]
    if config.num_labels:  # its head is the score's, in the place of the language model's: a bias of it would count
        beside = [name for name in beside if not name.startswith("score.")]
        beside += [name for name in tensors if name.startswith("lm_head.")]
    for name in beside:
        del tensors[name]
    if beside and needed <= tensors.keys():
        warnings.warn(
            f"{folder}: expected only the tensors of a GPT-2, found {_listed(beside)} beside them; left out",
            CheckpointWarning,
            stacklevel=3,
        )


def _differences(config: ModelConfig, tensors: Tensors) -> list[str]:
    """What is wrong, one phrase for each kind of difference."""
    expected = {spec.name: spec.shape for spec in _core.tensor_table(config.to_core())}
    kinds = {
        "missing": [f"{name} {shape}" for name, shape in expected.items() if name not in tensors],
        "surplus": [f"{_cut(name)} {tensor.shape}" for name, tensor in tensors.items() if name not in expected],
        "misshaped": [
            f"{name} (expected {expected[name]}, found {tensor.shape})"
            for name, tensor in tensors.items()
            if name in expected and tensor.shape != expected[name]
        ],
        f"of a type other than {', '.join(FLOATS)}": [
            f"{name} {_cut(tensor.dtype)}"
            for name, tensor in tensors.items()
            if name in expected and tensor.dtype not in FLOATS
        ],
    }
    return [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(_cut, names[:_NAMED])) + more


def _cut(name: str) -> str:
    """A stored name as an error shows it: as it is, unless it is no name that one could read."""
    return name if len(name) <= 100 and name.isprintable() else brief(name)
