"""How is a file reached so that no link leads elsewhere, and no folder is swapped on the way?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Windows has neither: there a folder is reached by its path each time, and links need an administrator.
HOLDS = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")

# A pipe in a file's place would otherwise wait for its other end.
_ALWAYS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))


class HeldFolder:
    """An open folder, the same one whatever becomes of its path. Names in it are plain; links are not followed."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[HeldFolder]:
        """The folder that a path of the user's leads to, by links too. OSError if there is none."""
        with cls._opened(path, None, 0) as folder:
            yield folder

    @classmethod
    @contextmanager
    def without_link(cls, path: Path) -> Iterator[HeldFolder]:
        """The folder itself. OSError if there is none, or a link in its place."""
        with cls._opened(path, None, getattr(os, "O_NOFOLLOW", 0)) as folder:
            yield folder

    @contextmanager
    def inside(self, name: str) -> Iterator[HeldFolder]:
        """A folder in this one. OSError if there is none, or a link in its place."""
        with self._opened(self.path / name, self._descriptor, getattr(os, "O_NOFOLLOW", 0)) as folder:
            yield folder

    @classmethod
    @contextmanager
    def _opened(cls, path: Path, parent: int | None, more: int) -> Iterator[HeldFolder]:
        if not HOLDS:
            if not path.is_dir():
                raise NotADirectoryError(f"expected the folder {path}, found none")
            yield cls(path, None)
            return
        name = path if parent is None else path.name
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | more, dir_fd=parent)
        try:
            yield cls(path, descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, name: str) -> None:
        """A folder for this user alone, if nothing of that name is there."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._name(name), 0o700, dir_fd=self._descriptor)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A descriptor of a file in it. OSError as from os.open, and for a link."""
        return os.open(self._name(name), flags | _ALWAYS, mode, dir_fd=self._descriptor)

    def status(self, name: str = "") -> os.stat_result:
        """Of the folder itself, or of what has that name: a link's own status."""
        if not name:
            return os.stat(self.path if self._descriptor is None else self._descriptor)  # noqa: PTH116
        return os.stat(self._name(name), dir_fd=self._descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        """What is in it."""
        return os.listdir(self.path if self._descriptor is None else self._descriptor)  # noqa: PTH208

    def replace(self, old: str, new: str) -> None:
        """Give a file another name; what had that name is gone."""
        os.replace(self._name(old), self._name(new), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file or a link. Nothing happens if that cannot be done."""
        with contextlib.suppress(OSError):
            os.unlink(self._name(name), dir_fd=self._descriptor)

    def sync(self) -> None:
        """Let new names survive a power cut, where folders can be synced."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)

    def _name(self, name: str) -> str:
        if name in ("", ".", "..") or os.path.basename(name) != name:  # noqa: PTH119
            raise ValueError(f"expected the plain name of a file, found {name!r}")
        return name if self._descriptor is not None else os.path.join(self.path, name)  # noqa: PTH118
