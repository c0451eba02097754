"""What do a checkpoint's tensors look like in the core's own layout?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dialocpp import _core
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.element_types import numpy_dtype
from dialocpp.checkpoint.stored_tensor import StoredTensor
from dialocpp.errors import CheckpointError

from .folding import F32, fold_scales

Array = npt.NDArray[Any]
Table = dict[str, tuple[str, tuple[int, ...]]]
DTYPES = _core.DTYPES

# To be raised whenever `packed_tensors` gives other numbers for the same source: kept copies are then made again.
RECIPE = 1

_LANES = 16
_PART_ELEMENTS = 1 << 20  # of an embedding, at a time
_SAFETENSORS = {"float32": "F32", "float16": "F16", "int8": "I8", "int32": "I32"}

# Linears that are float32 in a model of any dtype. A classifier's head has a row or a few: rounding it would save
# nothing and move every score.
_KEPT = ("score.weight",)

# A LayerNorm -> the linear that reads its output. ln_f is not here: its reader is the head, mostly wte.
_READERS = {"ln_1": "attn.c_attn.weight", "ln_2": "mlp.c_fc.weight"}
# Part of a block -> the LayerNorm whose fold scales it shares.
_FOLDED = {f"{norm}.{part}": norm for norm in _READERS for part in ("weight", "bias")} | {
    reader: norm for norm, reader in _READERS.items()
}


def packed_tensors(config: ModelConfig, source: Mapping[str, StoredTensor], dtype: str) -> Iterator[tuple[str, Array]]:
    """Name and packed array, one after the other, as `_core.Weights` wants them; one float32 copy at a time.

    `source` has been checked against the config (`read_source`). CheckpointError if a weight is not finite.
    """
    table = packed_table(config, dtype)
    scales: dict[str, F32] = {}
    for spec in _core.tensor_table(config.to_core()):
        if spec.kind == "linear":  # wte and lm_head: the largest by far, so they never exist as float32
            yield from _packed_by_rows(spec.name, source[spec.name], _stored(spec.name, dtype), table)
            continue
        array = _finite(spec.name, source[spec.name].float32())
        if dtype == "int8":
            array = _folded(spec.name, array, source, scales)
        if spec.kind in ("vector", "table"):
            yield spec.name, pad_lanes(array)
        else:
            yield from _linear(spec.name, array, True, dtype).items()


def packed_table(config: ModelConfig, dtype: str) -> Table:
    """Name -> (safetensors dtype, shape) of everything that `packed_tensors` yields, in its order."""
    table: Table = {}
    for spec in _core.tensor_table(config.to_core()):
        if spec.kind in ("vector", "table"):
            table[spec.name] = "F32", (*spec.shape[:-1], _round_up(spec.shape[-1], _LANES))
            continue
        inputs, outputs = spec.shape if spec.kind == "conv1d" else spec.shape[::-1]
        layout = _core.packed_layout(inputs, outputs, _stored(spec.name, dtype))
        for suffix, (element, shape) in layout.items():
            table[spec.name + suffix] = _SAFETENSORS[element], shape
    return table


def _stored(name: str, dtype: str) -> str:
    """The dtype of one linear in a model of this dtype."""
    return "float32" if name in _KEPT else dtype


def _packed_by_rows(name: str, tensor: StoredTensor, dtype: str, table: Table) -> Iterator[tuple[str, Array]]:
    """A linear stored (N, K): a row is an output, and each block of 16 outputs is packed alone."""
    rows = max(1, _PART_ELEMENTS // (tensor.shape[1] * _LANES)) * _LANES
    whole: dict[str, Array] = {}
    for i, part in enumerate(tensor.parts(rows)):
        for key, value in _linear(name, _finite(name, part), False, dtype).items():
            if key not in whole:
                stored, shape = table[key]
                whole[key] = np.empty(shape, numpy_dtype(stored))
            begin = i * rows // (_LANES if value.ndim > 1 else 1)  # blocks, or outputs
            whole[key][begin : begin + len(value)] = value
    yield from whole.items()


def _linear(name: str, array: F32, in_out: bool, dtype: str) -> dict[str, Array]:
    """A linear's packed arrays by their names; (K, N) if `in_out`, else (N, K)."""
    try:
        packed = _core.pack(array, dtype, in_out)
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from None
    return {name + suffix: part for suffix, part in packed.items()}


def pad_lanes(array: Array) -> Array:
    """The array with its last dimension filled up with zeros to a multiple of 16; contiguous."""
    missing = -array.shape[-1] % _LANES
    if not missing:
        return np.ascontiguousarray(array)
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _finite(name: str, array: F32) -> F32:
    if not np.isfinite(array).all():
        raise CheckpointError(f"expected finite numbers in {name}, found NaN or infinity; download the weights again")
    return array


def _folded(name: str, array: F32, source: Mapping[str, StoredTensor], scales: dict[str, F32]) -> F32:
    """The array with its share of the scales that pass between a LayerNorm and the linear that reads it.

    `scales` remembers them by LayerNorm, for three tensors need them.
    """
    parts = name.split(".", 2)  # h, 0, attn.c_attn.weight
    norm = _FOLDED.get(parts[-1])
    if norm is None or parts[0] != "h":
        return array
    block = f"h.{parts[1]}"
    key = f"{block}.{norm}"
    if key not in scales:
        names = (f"{key}.weight", f"{key}.bias", f"{block}.{_READERS[norm]}")
        scales[key] = fold_scales(*(_finite(needed, source[needed].float32()) for needed in names))
    return array * scales[key][:, None] if array.ndim == 2 else array / scales[key]
