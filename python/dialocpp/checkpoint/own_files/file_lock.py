"""Who may write, when several processes want to? A lock on a file that ends with its holder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .held_folder import HeldFolder

_PAUSE_S = 0.05

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def try_lock(descriptor: int) -> None:
        """Lock an open file; BlockingIOError or PermissionError if another holds it."""
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:

    def try_lock(descriptor: int) -> None:
        """Lock an open file; BlockingIOError or PermissionError if another holds it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(
    folder: HeldFolder, name: str, patience_s: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Hold the lock on a file, which is made if it is not there; its holder may remove it.

    OSError if it cannot be made or locked, TimeoutError (one of them) if another holds it for longer than
    `patience_s`.
    """
    deadline = clock() + patience_s
    while (descriptor := _locked(folder, name)) is None:
        if clock() >= deadline:
            raise TimeoutError(f"another process has held {folder.path / name} for {patience_s:.0f} s")
        time.sleep(_PAUSE_S)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(folder: HeldFolder, name: str) -> int | None:
    """A descriptor that holds the lock, or None while another one does."""
    descriptor = folder.open(name, os.O_RDWR | os.O_CREAT)
    try:
        try_lock(descriptor)
        if os.fstat(descriptor).st_nlink:  # else its last holder has removed it: the name is another file's now
            return descriptor
    except (BlockingIOError, PermissionError):  # flock's and locking's words for: taken
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
