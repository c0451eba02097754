"""How is a file written so that a reader sees the old one or the new one, whole, and a crash leaves nothing behind?"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .file_lock import try_lock
from .held_folder import HOLDS, HeldFolder

_PREFIX, _ENDING = ".dialocpp-", ".tmp"
_TEMPORARY = re.compile(re.escape(_PREFIX) + "([0-9a-f]{8})-[0-9a-f]{16}" + re.escape(_ENDING))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes `path`'s place when the block ends, whole and on the disk; nothing on an error.

    What had that name is replaced, a link too: nothing is written through it.
    """
    with HeldFolder.at(path.parent) as folder, replacing_in(folder, path.name) as file:
        yield file


@contextmanager
def replacing_in(folder: HeldFolder, name: str, mode: int = 0o666) -> Iterator[BinaryIO]:
    """The same for a name in a held folder. `mode`: the permissions of the new file, less the process's umask.

    While it is written, the file has another name and is locked. So the next writer of the same name can tell what
    a killed process has left from what is still being written, and removes it.
    """
    remove_leftovers(folder, name)
    temporary, descriptor = _new_temporary(folder, name, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if HOLDS:  # before its lock ends
                folder.replace(temporary, name)
        if not HOLDS:  # Windows renames no open file, and removes none
            folder.replace(temporary, name)
    except BaseException:
        folder.remove(temporary)
        raise
    folder.sync()


def keep_permissions(file: BinaryIO, old: os.stat_result) -> None:
    """Give a new file the permissions of the one that it will replace, and its group where that may be.

    Where it may not, the new file's group gets no more than all others.
    """
    if not hasattr(os, "fchown"):
        return  # Windows
    mode = stat.S_IMODE(old.st_mode) & 0o777
    try:
        os.fchown(file.fileno(), -1, old.st_gid)
    except OSError:
        mode &= ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    os.fchmod(file.fileno(), mode)


def remove_leftovers(folder: HeldFolder, name: str) -> None:
    """Remove what killed writers of this name have left."""
    for other in folder.names():
        match = _TEMPORARY.fullmatch(other)
        if match is None or match[1] != _digest(name):
            continue
        with contextlib.suppress(OSError):
            descriptor = folder.open(other, os.O_RDWR)
            try:
                try_lock(descriptor)
                folder.remove(other)
            finally:
                os.close(descriptor)


def temporaries(folder: HeldFolder) -> list[str]:
    """The names of all files that are being written, or were when their writer was killed."""
    return [name for name in folder.names() if _TEMPORARY.fullmatch(name)]


def _new_temporary(folder: HeldFolder, name: str, mode: int) -> tuple[str, int]:
    """A new locked file and its name. Short whatever `name` is: a file system may allow that just so."""
    while True:
        temporary = f"{_PREFIX}{_digest(name)}-{os.urandom(8).hex()}{_ENDING}"
        descriptor = folder.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        with contextlib.suppress(OSError):  # a file system without locks: its leftovers go with the next writer
            try_lock(descriptor)
        if os.fstat(descriptor).st_nlink:  # else it was taken for a leftover before it was locked
            return temporary, descriptor
        os.close(descriptor)


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
