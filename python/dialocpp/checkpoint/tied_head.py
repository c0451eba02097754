"""Is a model's head its embedding, or a matrix of its own? The config says one thing, the files sometimes another."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from dialocpp.errors import CheckpointWarning

from .config import ModelConfig
from .element_types import FLOATS, ITEM_BYTES, rounded
from .stored_tensor import StoredTensor, Tensors

_HEAD, _EMBEDDING = "lm_head.weight", "wte.weight"
_COMPARED_ROWS = 1024  # of two matrices, at a time


def resolve_tied_head(config: ModelConfig, tensors: Tensors, folder: Path) -> ModelConfig:
    """The config with the head as the files have it; a head that is the embedding is taken out of `tensors`.

    | stored | outcome |
    |---|---|
    | the head alone, and the config ties it | it is the embedding |
    | equal to the embedding | tied, whatever the config says |
    | equal but for rounding, and the config ties it | tied, as the one that is not rounded |
    | different, though the config ties it | its own, with a CheckpointWarning (as transformers does) |
    """
    head, embedding = tensors.get(_HEAD), tensors.get(_EMBEDDING)
    if head is None:
        return config
    if embedding is None:
        if config.tie_word_embeddings:
            tensors[_EMBEDDING] = tensors.pop(_HEAD)
        return config
    if same_numbers(head, embedding) or (config.tie_word_embeddings and _same_but_rounded(head, embedding)):
        del tensors[_HEAD]
        tensors[_EMBEDDING] = max(embedding, head, key=lambda tensor: ITEM_BYTES[tensor.dtype])
        return replace(config, tie_word_embeddings=True)
    if config.tie_word_embeddings and head.shape == embedding.shape and not config.num_labels:
        warnings.warn(
            f"{folder}: expected {_HEAD} to equal {_EMBEDDING}, as config.json ties them, found another; it is used as "
            'it is: set "tie_word_embeddings" to false in config.json',
            CheckpointWarning,
            stacklevel=2,
        )
        return replace(config, tie_word_embeddings=False)
    return config


def same_numbers(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors hold equal numbers, whatever their types."""
    if one.shape != other.shape or not one.shape or {one.dtype, other.dtype} - set(FLOATS):
        return False
    pairs = zip(one.parts(_COMPARED_ROWS), other.parts(_COMPARED_ROWS), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _same_but_rounded(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether the tensor of the shorter type is the other one, rounded to it."""
    if one.shape != other.shape or not one.shape or {one.dtype, other.dtype} - set(FLOATS):
        return False
    short, long = sorted((one, other), key=lambda tensor: ITEM_BYTES[tensor.dtype])
    pairs = zip(short.parts(_COMPARED_ROWS), long.parts(_COMPARED_ROWS), strict=True)
    return all(np.array_equal(a, rounded(b, short.dtype)) for a, b in pairs)
