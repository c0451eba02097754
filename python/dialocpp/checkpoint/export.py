"""How does a model become a folder that dialocpp maps and uses without another step?"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
from .packed.writer import write_packed_to
from .regular_file import read_bytes
from .resolve import resolve
from .source import read_source


def export_checkpoint(
    source: Source | str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    *,
    dtype: str = "int8",
) -> Path:
    """Write a packed folder (weights, configs, tokenizer) and return it; the weights come last.

    CheckpointError as in `load_checkpoint`, for a packed model and for a full disk; ValueError for a dtype
    that does not exist or for writing into the source folder. Where it fails, no new file is left.
    """
    check_dtype(dtype, allow_auto=False)
    folder = resolve(Source.of(source))
    target = Path(out)
    if target.exists() and target.resolve() == folder.resolve():
        raise ValueError(f"expected an output folder other than the model's own {folder}, found it; choose another")
    files = weight_files(folder)
    config, tensors = read_source(files, ModelConfig.from_file(folder / CONFIG))
    tokenizer = _tokenizer_files(folder)
    packed = shown(packed_tensors(config, tensors, dtype), packed_table(config, dtype), "Packing")
    with _all_or_nothing(target), fingerprint_meanwhile(files) as source_sha256, replacing(target / PACKED) as file:
        write_packed_to(file, config, dtype, source_sha256, packed)  # most of the room is taken first
        _write_config(folder, target, config)
        for name in tokenizer:
            _copy(folder / name, target / name)
    return target


@contextmanager
def _all_or_nothing(target: Path) -> Iterator[None]:
    """A folder, made if it is not there, in which no new file is left when the block fails.

    CheckpointError, with the disk's name, if it cannot be written.
    """
    is_new = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        before = set(target.iterdir())
        try:
            yield
        except BaseException:
            for path in set(target.iterdir()) - before:
                path.unlink()
            if is_new:
                target.rmdir()
            raise
    except OSError as error:
        raise CheckpointError(
            f"expected to write the model to {target}, found that it cannot be written ({error.strerror or error}; "
            f"{_disk(target)}); make room there, or choose another folder"
        ) from error


def _disk(path: Path) -> str:
    """Where the disk of a path is mounted, and what is free on it."""
    place = path.absolute()
    while not place.exists() or not place.is_mount():
        place = place.parent
    return f"the disk at {place} has {shutil.disk_usage(place).free >> 20:,} MiB free"


def _write_config(folder: Path, target: Path, config: ModelConfig) -> None:
    """The model's config.json, with every default written out."""
    values = read_json_object(folder / CONFIG) | config.to_dict()
    with replacing(target / CONFIG) as file:
        file.write(json.dumps(values, indent=2).encode() + b"\n")
    if (folder / GENERATION_CONFIG).is_file():
        _copy(folder / GENERATION_CONFIG, target / GENERATION_CONFIG)


def _tokenizer_files(folder: Path) -> list[str]:
    """The first tokenizer that is there, and the settings beside it."""
    tables = next((names for names in TOKENIZERS if all((folder / name).is_file() for name in names)), None)
    if tables is None:
        raise CheckpointError(f"{folder}: expected a tokenizer, found no file of one; add tokenizer.json")
    return [*tables, *(name for name in TOKENIZER_SETTINGS if (folder / name).is_file())]


def _copy(old: Path, target: Path) -> None:
    """What had the target's name is replaced: nothing is written through a link that lies there."""
    with replacing(target) as new:
        new.write(read_bytes(old))
