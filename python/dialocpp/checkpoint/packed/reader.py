"""What does a packed checkpoint hold, mapped and used as it lies?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.json_file import parse_json
from dialocpp.checkpoint.mapped import MappedFile, map_safetensors
from dialocpp.errors import CheckpointError, brief

from .format import FORMAT, VERSION, check_tensors
from .pack import DTYPES, Array, packed_table


@dataclass(frozen=True)
class PackedFile:
    """A validated packed file; `tensors` are read-only views of the mapping, in `_core.Weights`'s form."""

    config: ModelConfig
    dtype: str
    source_sha256: str
    tensors: dict[str, Array]
    metadata: Mapping[str, str]


def read_packed(path: Path) -> PackedFile:
    """Map and validate; CheckpointError for a wrong format, version, dtype or shape. Nothing is copied."""
    file = map_safetensors(path)
    dtype = _checked_dtype(path, file.metadata)
    config = _config(path, file)
    check_tensors(str(path), file, packed_table(config, dtype))
    tensors = {name: tensor.array for name, tensor in file.tensors.items()}
    return PackedFile(config, dtype, file.metadata.get("source_sha256", ""), tensors, file.metadata)


def _checked_dtype(path: Path, metadata: Mapping[str, str]) -> str:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected format {FORMAT!r} in its metadata, found {brief(metadata.get('format'))}; "
            "make the file with `dialocpp quantize`"
        )
    if metadata.get("format_version") != str(VERSION):
        raise CheckpointError(
            f"{path}: expected format version {VERSION}, found {brief(metadata.get('format_version'))}; "
            "quantise the model again or use the dialocpp that wrote it"
        )
    dtype = metadata.get("dtype", "")
    if dtype not in DTYPES:
        raise CheckpointError(
            f"{path}: expected a dtype of {', '.join(DTYPES)}, found {brief(dtype)}; quantise the model again"
        )
    return dtype


def _config(path: Path, file: MappedFile) -> ModelConfig:
    try:
        values = parse_json(file.metadata.get("config", ""))
    except ValueError as error:
        raise CheckpointError(f"{path}: expected a config in its metadata, found {error}; quantise again") from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path}: expected a config in its metadata, found {brief(values)}; quantise the model again"
        )
    return ModelConfig.from_dict(values, source=f"the config in {path}")
