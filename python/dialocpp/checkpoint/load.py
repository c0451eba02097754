"""What is needed to run a model, from its name to arrays that the core can use?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dialocpp.errors import CheckpointError

from .config import ModelConfig
from .files import CONFIG, GENERATION_CONFIG, PACKED, weight_files
from .json_file import read_json_object
from .model_source import Source
from .packed.cache import quantised
from .packed.fingerprint import fingerprint_of
from .packed.pack import DTYPES, Array, packed_tensors
from .packed.reader import PackedFile, read_packed
from .resolve import resolve, resolve_tokenizer
from .source import read_source


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What was in the files. `tensors` are in `_core.Weights`'s form; the tokenizer lies in `tokenizer_folder`."""

    name: str
    folder: Path
    tokenizer_folder: Path
    config: ModelConfig
    generation_config: dict[str, Any]
    dtype: str
    tensors: dict[str, Array]
    source_sha256: str | None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights' source files, also for a quantised copy. The first use reads the files."""
        return self.source_sha256 or fingerprint_of(weight_files(self.folder))


def load_checkpoint(
    source: Source | str | os.PathLike[str] | None = None,
    *,
    dtype: str = "auto",
    tokenizer: Source | str | os.PathLike[str] | None = None,
) -> LoadedCheckpoint:
    """Load a source; a name alone is one: a folder, a Hub id, or None for the bundled model.

    `dtype` is float32, float16, int8, or auto: what a packed checkpoint holds, else int8, of which a copy is kept for
    the next load (`packed.cache`). `tokenizer`: the folder or Hub id of a tokenizer from elsewhere.
    CheckpointError for files that are missing, damaged or not a GPT-2's;
    ValueError for a dtype that does not exist or that a packed checkpoint lacks.
    """
    check_dtype(dtype, allow_auto=True)
    source = Source.of(source)
    folder = resolve(source)
    config = ModelConfig.from_file(folder / CONFIG)
    packed = _packed(folder, config, dtype)
    if packed is None:
        files = weight_files(folder)
        dtype = "int8" if dtype == "auto" else dtype
        if dtype == "int8":
            packed = quantised(folder, files, config)
            config = packed.config if packed else config
    if packed is None:
        config, stored = read_source(files, config)
        tensors = dict(packed_tensors(config, stored, dtype))
    else:
        dtype, tensors = packed.dtype, packed.tensors
    return LoadedCheckpoint(
        name=source.title,
        folder=folder,
        tokenizer_folder=folder if tokenizer is None else resolve_tokenizer(Source.of(tokenizer)),
        config=config,
        generation_config=read_generation_config(folder),
        dtype=dtype,
        tensors=tensors,
        source_sha256=packed.source_sha256 if packed else None,
    )


def check_dtype(dtype: str, *, allow_auto: bool) -> None:
    """ValueError with the list if there is no such dtype."""
    known = ("auto", *DTYPES) if allow_auto else DTYPES
    if dtype not in known:
        raise ValueError(f"expected dtype to be one of {', '.join(known)}, found {dtype!r}; choose one of them")


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The content of generation_config.json, or nothing if there is none."""
    path = folder / GENERATION_CONFIG
    return read_json_object(path) if path.is_file() else {}


def _packed(folder: Path, config: ModelConfig, dtype: str) -> PackedFile | None:
    """The folder's packed file if it has one of the wanted dtype; None if other weights are to be read."""
    path = folder / PACKED
    if not path.is_file():
        return None
    packed = read_packed(path)
    if packed.config.architecture() != config.architecture():
        raise CheckpointError(
            f"{folder}: expected the config.json with which {PACKED} was made, found another; quantise the model again"
        )
    if dtype in ("auto", packed.dtype):
        return packed
    try:
        weight_files(folder)
    except CheckpointError as error:
        raise ValueError(
            f"expected dtype auto or {packed.dtype} for {folder}, which holds nothing else, found {dtype!r}; "
            "load the model from which it was made"
        ) from error
    return None
