"""How are the bytes of a weight file read, when it may be cut short while it is read?

By reads of exact lengths. A file that is mapped and then cut kills the process at the next look at it; a read that
comes short is an error that a caller can catch. And what has been read leaves no pages in this process's memory.
"""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from threading import Lock

from dialocpp.errors import CheckpointError

from .regular_file import open_regular

_LFS_POINTER = b"version https://git-lfs"


class WeightFile:
    """An open file. `len` is its size when it was opened; a slice reads, for the few bytes that describe the rest."""

    def __init__(self, path: Path) -> None:
        """CheckpointError for what is no regular file, OSError for what cannot be opened."""
        self.path = path
        self._descriptor, self._size = open_regular(path)
        self._lock = Lock()
        closing = weakref.finalize(self, os.close, self._descriptor)
        closing.atexit = False  # a daemon thread may still read while the process ends, and the system closes it then

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(self._size)
        data = bytearray(max(0, end - begin))
        self.read_into(begin, memoryview(data))
        return bytes(data)

    def read_into(self, begin: int, target: memoryview) -> None:
        """Fill `target`, which is of bytes; CheckpointError if the file has no longer so many."""
        done = 0
        while done < len(target):
            count = self._read(begin + done, target[done:])
            if not count:
                raise CheckpointError(
                    f"expected {len(self):,} bytes in {self.path}, found that it was cut short while it was read; "
                    "load it again when it is whole"
                )
            done += count

    def mapped(self) -> mmap.mmap:
        """The whole file in memory, as long as the mapping lives; CheckpointError if it cannot be mapped."""
        try:
            return mmap.mmap(self._descriptor, self._size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"expected to map {self.path} into memory, found that it cannot be mapped ({error}); load it again"
            ) from error

    def is_lfs_pointer(self) -> bool:
        """Whether it only says where git-lfs keeps the real file."""
        return self[: len(_LFS_POINTER)] == _LFS_POINTER

    def _read(self, begin: int, target: memoryview) -> int:
        try:
            if hasattr(os, "preadv"):
                return os.preadv(self._descriptor, [target], begin)
            with self._lock:  # Windows: the position belongs to the descriptor
                os.lseek(self._descriptor, begin, os.SEEK_SET)
                data = os.read(self._descriptor, min(len(target), 1 << 24))
        except OSError as error:
            raise CheckpointError(
                f"expected to read {self.path}, found that it cannot be read ({error.strerror}); check the disk"
            ) from error
        target[: len(data)] = data
        return len(data)
