"""Where does a model's int8 copy lie, and may it be trusted?

The first load writes the copy as one packed file (docs/format.md) beside the model: in `dialocpp/` of the
model's entry in the Hub's cache, or in `.dialocpp/` of a local folder. Its metadata holds the SHA-256 of the
source and of its own data. A small JSON file beside it, the stamp, holds size, times and inode of the source
and of the copy as they were when both hashes were found right. A load that finds the same ones maps the copy
at once; else both are hashed again, and what does not agree is made anew. Whoever cannot write here gets a
warning and runs without a cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path

from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.source import Tensors, read_source
from dialocpp.errors import CacheWarning, CheckpointError

from .file_lock import locked
from .fingerprint import data_sha256, fingerprint_meanwhile, fingerprint_of
from .format import VERSION
from .pack import RECIPE, packed_table, packed_tensors
from .progress import shown
from .reader import PackedFile, read_packed
from .writer import TEMPORARY, replacing, write_packed

# A smaller model is quantised faster than one notices.
MIN_SOURCE_BYTES = 32 << 20
PATIENCE_S = 600.0  # with another process that makes the same copy

_DTYPE = "int8"

Stamp = dict[str, object]


def cache_folder(folder: Path) -> Path:
    """Where a model's copies are: in its entry of the Hub's cache, deleted with it, or in its folder."""
    entry = folder.parent.parent
    if folder.parent.name == "snapshots" and entry.name.startswith("models--"):
        return entry / "dialocpp"
    return folder / ".dialocpp"


def cache_file(folder: Path, files: list[Path]) -> Path:
    """The copy: named by format, version and the sources' names, which are hashes in the Hub's cache."""
    names = "\n".join(path.resolve().name for path in files)
    key = hashlib.sha256(names.encode()).hexdigest()[:16]
    return cache_folder(folder) / f"{key}-{_DTYPE}-v{VERSION}.safetensors"


def quantised(folder: Path, files: list[Path], config: ModelConfig) -> PackedFile | None:
    """The int8 copy of these files, made now if there is none; None where the source must do.

    CheckpointError if the source is no model; CacheWarning if it is one and the copy cannot be written.
    """
    if sum(path.stat().st_size for path in files) < MIN_SOURCE_BYTES:
        return None
    path = cache_file(folder, files)
    found = _trusted(path, files, config)
    if found is not None:
        return found
    source_config, tensors = read_source(files, config)
    try:
        path.parent.mkdir(exist_ok=True)
        with locked(path.parent / "lock", PATIENCE_S):
            found = _trusted(path, files, config)  # made by another process in the meantime
            if found is not None:
                return found
            _remove_leftovers(path)
            _write(path, files, config, source_config, tensors)
            return _config_of(read_packed(path), config)
    except OSError as error:
        warnings.warn(
            f"expected to keep the int8 copy of {folder} in {path.parent}, found that it cannot be written "
            f"({error.strerror or error}); every load will quantise again until it can",
            CacheWarning,
            stacklevel=2,
        )
        return None


def _write(path: Path, files: list[Path], config: ModelConfig, source_config: ModelConfig, tensors: Tensors) -> None:
    """The copy, then its stamp. The source is hashed by another thread while this one packs."""
    stamp = _stamp(files)
    with fingerprint_meanwhile(files) as source_sha256:
        packed = packed_tensors(source_config, tensors, _DTYPE)
        write_packed(
            path,
            source_config,
            _DTYPE,
            source_sha256,
            shown(packed, packed_table(source_config, _DTYPE), "Quantising, once"),
            {"source_config": _digest(config)},
        )
    _write_stamp(path, stamp)


def _trusted(path: Path, files: list[Path], config: ModelConfig) -> PackedFile | None:
    """The copy if it is whole and was made of these files with this config."""
    try:
        packed = read_packed(path)
        if packed.dtype != _DTYPE or packed.metadata.get("source_config") != _digest(config):
            return None
        stamp = _stamp(files)
        if _read_stamp(path) == {"source": stamp, "copy": _facts(path)}:
            return _config_of(packed, config)
        if packed.metadata.get("data_sha256") != data_sha256(path) or packed.source_sha256 != fingerprint_of(files):
            return None
    except (CheckpointError, OSError):
        return None
    with contextlib.suppress(OSError):  # a read-only cache is as good, only slower
        _write_stamp(path, stamp)
    return _config_of(packed, config)


def _config_of(packed: PackedFile, config: ModelConfig) -> PackedFile:
    """The copy under the config.json of now: token ids may have changed, the head's tying has been found."""
    return replace(packed, config=replace(config, tie_word_embeddings=packed.config.tie_word_embeddings))


def _digest(config: ModelConfig) -> str:
    """What config.json says about the weights (the copy's own may say more of the head), and how they are packed."""
    return json.dumps(config.architecture() | {"recipe": RECIPE}, sort_keys=True)


def _facts(path: Path) -> list[int]:
    """What changes when a file is written, replaced or given another time: no reading needed."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _stamp(files: list[Path]) -> list[list[int]]:
    return [_facts(path) for path in files]


def _stamp_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(_stamp_file(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _write_stamp(path: Path, stamp: list[list[int]]) -> None:
    with replacing(_stamp_file(path)) as file:
        file.write(json.dumps({"source": stamp, "copy": _facts(path)}).encode())


def _remove_leftovers(path: Path) -> None:
    """What killed processes left half written, and copies of these files in another version of the format."""
    key = path.name.partition("-")[0]
    for other in [*path.parent.glob(f".*{TEMPORARY}"), *path.parent.glob(f"{key}-*")]:
        with contextlib.suppress(OSError):
            other.unlink()
    with contextlib.suppress(OSError):
        (path.parent / ".gitignore").write_text("*\n")
