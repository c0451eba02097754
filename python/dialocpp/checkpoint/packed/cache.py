"""Where does a model's int8 copy lie, and why may it be believed?

The first load writes the copy as one packed file (docs/format.md) into the user's own cache, never into the model's
folder, which is a stranger's. Beside it lies its stamp: size, times and inode of the source and of the copy as they
were when it was made, and the hash of the copy. A load that finds the same numbers maps the copy at once; else source
and copy are hashed again, and what does not agree is made again. So a copy is believed because this user's process
made it, not because of anything that lies in it or beside the model. Whoever has no cache gets a warning and runs
without one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.own_files.file_lock import locked
from dialocpp.checkpoint.own_files.held_folder import HeldFolder
from dialocpp.checkpoint.own_files.user_cache import cache_root, check_own, own_folder, read_own
from dialocpp.checkpoint.own_files.whole_file import remove_leftovers, replacing_in
from dialocpp.checkpoint.source import read_source
from dialocpp.checkpoint.stored_tensor import Tensors
from dialocpp.errors import CacheWarning, CheckpointError

from .fingerprint import data_sha256, fingerprint_meanwhile, fingerprint_of, header_sha256
from .format import VERSION
from .pack import RECIPE, packed_table, packed_tensors
from .progress import shown
from .reader import PackedFile, read_packed
from .writer import write_packed_to

# A smaller model is quantised faster than one notices.
MIN_SOURCE_BYTES = 32 << 20
PATIENCE_S = 600.0  # with another process that makes the same copy

FOLDER = "int8"
_DTYPE = "int8"
_STAMP_BYTES = 1 << 20
_NAME = re.compile(r"([0-9a-f]{32})(?:-\w+-v\d+\.(?:safetensors|json)|\.lock)")


@dataclass(frozen=True)
class _Copy:
    """One copy by its source: the files' paths are its key, so that another state of them takes its place."""

    files: list[Path]
    key: str

    @classmethod
    def of(cls, files: list[Path]) -> _Copy:
        """A link in the Hub's cache stands for the blob that it leads to, which all revisions share."""
        resolved = [path.resolve() for path in files]
        return cls(files, hashlib.sha256(b"\0".join(map(os.fsencode, resolved))).hexdigest()[:32])

    @property
    def name(self) -> str:
        return f"{self.key}-{_DTYPE}-v{VERSION}.safetensors"

    @property
    def stamp(self) -> str:
        return f"{self.key}-{_DTYPE}-v{VERSION}.json"

    @property
    def lock(self) -> str:
        return f"{self.key}.lock"

    def source_facts(self) -> list[list[Any]]:
        """The files as they are now."""
        return [[str(path.resolve()), *_facts(path.stat())] for path in self.files]


def cache_folder() -> Path:
    """Where all copies are. OSError for a user without a home."""
    return cache_root() / FOLDER


def cache_file(files: list[Path]) -> Path:
    """The copy of these weights, whether it is there or not."""
    return cache_folder() / _Copy.of(files).name


def quantised(folder: Path, files: list[Path], config: ModelConfig) -> PackedFile | None:
    """The int8 copy of these files, made now if there is none; None where the source must do.

    CheckpointError if the source is no model; CacheWarning if it is one and the copy cannot be written.
    """
    if sum(path.stat().st_size for path in files) < MIN_SOURCE_BYTES:
        return None
    try:
        with own_folder(FOLDER) as held:
            return _found_or_made(held, _Copy.of(files), config)
    except OSError as error:
        warnings.warn(
            f"expected to keep the int8 copy of {folder} in a cache of your own, found that it cannot be written "
            f"({error.strerror or error}); every load will quantise again until it can",
            CacheWarning,
            stacklevel=2,
        )
        return None


def _found_or_made(held: HeldFolder, copy: _Copy, config: ModelConfig) -> PackedFile:
    found = _trusted(held, copy, config)
    if found is not None:
        return found
    source_config, tensors = read_source(copy.files, config)
    with locked(held, copy.lock, PATIENCE_S):
        found = _trusted(held, copy, config)  # made by another process in the meantime
        if found is not None:
            return found
        _clean(held, copy)
        _write(held, copy, config, source_config, tensors)
        return _config_of(read_packed(held.path / copy.name), config)


def _write(held: HeldFolder, copy: _Copy, config: ModelConfig, source_config: ModelConfig, tensors: Tensors) -> None:
    """The copy, then its stamp. The source is hashed by another thread while this one packs."""
    source = copy.source_facts()
    with fingerprint_meanwhile(copy.files) as source_sha256, replacing_in(held, copy.name, 0o600) as file:
        packed = packed_tensors(source_config, tensors, _DTYPE)
        write_packed_to(
            file,
            source_config,
            _DTYPE,
            source_sha256,
            shown(packed, packed_table(source_config, _DTYPE), "Quantising, once"),
            {"source_config": _digest(config)},
        )
    _write_stamp(held, copy, source, header_sha256(held.path / copy.name))


def _trusted(held: HeldFolder, copy: _Copy, config: ModelConfig) -> PackedFile | None:
    """The copy if this user made it, it is whole, and it was made of these files with this config."""
    try:
        stamp = _read_stamp(held, copy)
        facts = _own_facts(held, copy.name)
        packed = read_packed(held.path / copy.name)
        if packed.dtype != _DTYPE or packed.metadata.get("source_config") != _digest(config):
            return None
        source = copy.source_facts()
        if stamp["copy"] == facts and stamp["source"] == source:
            return _config_of(packed, config)
        path = held.path / copy.name
        if header_sha256(path) != stamp["sha256"] or data_sha256(path) != packed.metadata.get("data_sha256"):
            return None
        if packed.source_sha256 != fingerprint_of(copy.files):
            return None
    except (CheckpointError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    with contextlib.suppress(OSError):  # a read-only cache is as good, only slower
        _write_stamp(held, copy, source, stamp["sha256"])
    return _config_of(packed, config)


def _config_of(packed: PackedFile, config: ModelConfig) -> PackedFile:
    """The copy under the config.json of now: token ids may have changed, the head's tying has been found."""
    return replace(packed, config=replace(config, tie_word_embeddings=packed.config.tie_word_embeddings))


def _digest(config: ModelConfig) -> str:
    """What config.json says about the weights (the copy's own may say more of the head), and how they are packed."""
    return json.dumps(config.architecture() | {"recipe": RECIPE}, sort_keys=True)


def _facts(status: os.stat_result) -> list[int]:
    """What changes when a file is written, replaced or given another time: no reading needed."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _own_facts(held: HeldFolder, name: str) -> list[int]:
    status = held.status(name)
    check_own(status, held.path / name)
    return _facts(status)


def _read_stamp(held: HeldFolder, copy: _Copy) -> dict[str, Any]:
    stamp = json.loads(read_own(held, copy.stamp, _STAMP_BYTES))
    if not isinstance(stamp, dict):
        raise ValueError(f"expected a JSON object in {held.path / copy.stamp}, found another value")
    return stamp


def _write_stamp(held: HeldFolder, copy: _Copy, source: list[list[Any]], sha256: str) -> None:
    stamp = {"source": source, "copy": _own_facts(held, copy.name), "sha256": sha256}
    with replacing_in(held, copy.stamp, 0o600) as file:
        file.write(json.dumps(stamp).encode())


def _clean(held: HeldFolder, copy: _Copy) -> None:
    """Remove what killed processes left, this copy in other versions of the format, and copies without a source."""
    keys: dict[str, list[str]] = {}
    for name in held.names():
        if match := _NAME.fullmatch(name):
            keys.setdefault(match[1], []).append(name)
    for name in keys.pop(copy.key, []):
        if name != copy.lock:
            held.remove(name)
    for key, names in keys.items():
        other = _Copy([], key)
        with contextlib.suppress(OSError), locked(held, other.lock, 0.0):
            if _is_orphan(held, other):
                remove_leftovers(held, other.name)
                for name in {*names, other.lock}:
                    held.remove(name)


def _is_orphan(held: HeldFolder, copy: _Copy) -> bool:
    """Whether a source is gone: its folder was deleted or moved."""
    try:
        paths = [Path(fact[0]) for fact in _read_stamp(held, copy)["source"]]
        return any(not path.exists() for path in paths)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return True  # without a stamp, a copy is never used again
