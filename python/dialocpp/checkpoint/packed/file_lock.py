"""Who may write, when several processes want to? A lock on a file that ends with its holder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE_S = 0.05

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path, patience_s: float, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Hold the lock on `path`, which is made if it is not there.

    OSError if it cannot be made or locked, TimeoutError (one of them) if another holds it for longer than
    `patience_s`.
    """
    deadline = clock() + patience_s
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        while True:
            try:
                _try_lock(descriptor)
                break
            except (BlockingIOError, PermissionError):  # flock's and locking's words for: taken
                if clock() >= deadline:
                    raise TimeoutError(f"another process has held {path} for {patience_s:.0f} s") from None
                time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(descriptor)
