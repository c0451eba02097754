"""How is a file of a model's folder opened and read, when anything may stand in its place?

A pipe waits for ever, a device has no end, and a file may be as large as its maker liked. Only regular files are
opened, and of those that are read whole the size is bounded before memory is taken.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dialocpp.errors import CheckpointError

# The largest tokenizer.json in use has 35 MB; every other text file of a model is smaller.
MAX_BYTES = 64 << 20

# A pipe in a file's place would otherwise wait for its other end.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))


def open_regular(path: Path) -> tuple[int, int]:
    """(descriptor, size) of a file; CheckpointError for anything else in its place, OSError if there is nothing."""
    descriptor = os.open(path, _FLAGS)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status.st_size
    os.close(descriptor)
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a device or a socket"
    raise CheckpointError(f"expected a regular file {path}, found {kind}; do not load this folder")


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """A whole file; CheckpointError if there is none, or none that a model could need."""
    try:
        descriptor, size = open_regular(path)
    except OSError as error:
        raise CheckpointError(
            f"expected a readable file {path}, found none ({error.strerror}); check the folder"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(size + 1) if size <= limit else b""
    if size > limit:
        raise CheckpointError(f"expected at most {limit:,} bytes in {path}, found {size:,}; do not load this folder")
    if len(data) > size:
        raise CheckpointError(f"expected {size:,} bytes in {path}, found that it grew while it was read; load it again")
    return data


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """The same as UTF-8, without the byte-order mark that some editors put first."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"expected UTF-8 in {path}, found something else ({error}); download it again") from error
