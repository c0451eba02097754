"""How does a model become a folder that dialocpp maps and uses without another step?"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from dialocpp.errors import CheckpointError

from .config import ModelConfig
from .files import CONFIG, GENERATION_CONFIG, PACKED, TOKENIZER_SETTINGS, TOKENIZERS, weight_files
from .json_file import read_json_object
from .load import check_dtype
from .model_source import Source
from .own_files.whole_file import replacing
from .packed.fingerprint import fingerprint_meanwhile
from .packed.pack import packed_table, packed_tensors
from .packed.progress import shown
from .packed.writer import write_packed
from .resolve import resolve
from .source import read_source


def export_checkpoint(
    source: Source | str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    *,
    dtype: str = "int8",
) -> Path:
    """Write a packed folder (weights, configs, tokenizer) and return it; the weights come last.

    CheckpointError as in `load_checkpoint`, also for a model that is packed already; ValueError for a dtype
    that does not exist or for writing into the source folder.
    """
    check_dtype(dtype, allow_auto=False)
    folder = resolve(Source.of(source))
    target = Path(out)
    if target.exists() and target.resolve() == folder.resolve():
        raise ValueError(f"expected an output folder other than the model's own {folder}, found it; choose another")
    files = weight_files(folder)
    config, tensors = read_source(files, ModelConfig.from_file(folder / CONFIG))
    target.mkdir(parents=True, exist_ok=True)
    _write_config(folder, target, config)
    _copy_tokenizer(folder, target)
    packed = shown(packed_tensors(config, tensors, dtype), packed_table(config, dtype), "Packing")
    with fingerprint_meanwhile(files) as source_sha256:
        write_packed(target / PACKED, config, dtype, source_sha256, packed)
    return target


def _write_config(folder: Path, target: Path, config: ModelConfig) -> None:
    """The model's config.json, with every default written out."""
    values = read_json_object(folder / CONFIG) | config.to_dict()
    with replacing(target / CONFIG) as file:
        file.write(json.dumps(values, indent=2).encode() + b"\n")
    if (folder / GENERATION_CONFIG).is_file():
        _copy(folder / GENERATION_CONFIG, target / GENERATION_CONFIG)


def _copy_tokenizer(folder: Path, target: Path) -> None:
    """The first tokenizer that is there, and the settings beside it."""
    tables = next((names for names in TOKENIZERS if all((folder / name).is_file() for name in names)), None)
    if tables is None:
        raise CheckpointError(f"{folder}: expected a tokenizer, found no file of one; add tokenizer.json")
    for name in (*tables, *(name for name in TOKENIZER_SETTINGS if (folder / name).is_file())):
        _copy(folder / name, target / name)


def _copy(old: Path, target: Path) -> None:
    """What had the target's name is replaced: nothing is written through a link that lies there."""
    with old.open("rb") as content, replacing(target) as new:
        shutil.copyfileobj(content, new)
