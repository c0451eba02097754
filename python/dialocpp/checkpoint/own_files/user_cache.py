"""Where does this package keep files for the next run, and how is it known that no other user has touched them?

Everything that is kept lies in one folder of the user's own: `DIALOCPP_CACHE`, else `dialocpp` in `XDG_CACHE_HOME` or
in `~/.cache` (on Windows in `LOCALAPPDATA`). Never in a model's folder: that is a stranger's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .held_folder import HeldFolder

SETTING = "DIALOCPP_CACHE"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_root() -> Path:
    """The folder, whether it is there or not. OSError for a user without a home."""
    if given := os.environ.get(SETTING):
        return Path(given).expanduser().absolute()
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        folder = os.environ.get(name, "")
        if os.path.isabs(folder):  # noqa: PTH117 - a relative one is to be ignored, says XDG
            return Path(folder) / "dialocpp"
    try:
        return Path.home() / ".cache" / "dialocpp"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, f"no folder of your own was found; set {SETTING}") from error


@contextmanager
def own_folder(name: str) -> Iterator[HeldFolder]:
    """A folder in the cache, made if it is not there.

    OSError if it cannot be, and if it is a link, another user's, or open for others to write: then it could hold
    anything.
    """
    root = cache_root()
    root.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        root.mkdir(0o700)
    with ExitStack() as stack:
        with _explained(root):
            cache = stack.enter_context(HeldFolder.without_link(root))
            _check(cache.status(), root, others_may_write=True)  # what they could put here is checked below
            cache.make_folder(name)
            folder = stack.enter_context(cache.inside(name))
        _check(folder.status(), folder.path)
        yield folder


def read_own(folder: HeldFolder, name: str, limit: int) -> bytes:
    """The content of a small file that this user wrote. OSError for anything else, and for more than `limit` bytes."""
    descriptor = folder.open(name, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        check_own(os.fstat(descriptor), folder.path / name)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"expected at most {limit} bytes in {folder.path / name}, found more")
    return content


def check_own(status: os.stat_result, path: Path) -> None:
    """OSError unless it is a regular file that only this user could have written."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EPERM, f"expected a file {path}, found something else; remove it")
    _check(status, path)


def _check(status: os.stat_result, path: Path, others_may_write: bool = False) -> None:
    if not hasattr(os, "geteuid"):
        return  # Windows: a user's profile is closed to others by its access lists, which the mode does not show
    if status.st_uid != os.geteuid():
        raise OSError(
            errno.EPERM, f"expected {path} to be your own, found the owner {status.st_uid}; set {SETTING} to another"
        )
    if status.st_mode & _OTHERS_WRITE and not others_may_write:
        raise OSError(
            errno.EPERM,
            f"expected {path} to be closed for others to write, found the mode {stat.S_IMODE(status.st_mode):03o}; "
            "delete it",
        )


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """A link in the folder's place has an error of its own on each system."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP)):
            raise OSError(
                errno.EPERM, f"expected folders at and in {root}, found a link or a file; set {SETTING} to another"
            ) from error
        raise
