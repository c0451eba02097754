"""What becomes of the calls of daemon threads when the process ends? Their step is finished, and no other begins.

Python ends such threads wherever they ask for the GIL next. A step's thread holds its scheduler's lock, which what is
closed on the way out takes too; so the lock is taken first, and kept. The core does the same for its own calls
(`src/bindings/released_gil.h`): its hook was registered before and so runs after these.
"""

from __future__ import annotations

import atexit
import threading
from typing import Protocol
from weakref import WeakSet


class Ending(Protocol):
    """Something whose steps end with the process."""

    def end(self) -> None:
        """Called once, by the thread that ends the process: nobody else's step runs from now on."""


_all: WeakSet[Ending] = WeakSet()
_enders: list[int] = []  # the thread that ends the process, once it does


def end_at_exit(holder: Ending) -> None:
    """Call `holder.end()` when the process ends, if `holder` still lives."""
    _all.add(holder)


def stay_if_ending() -> None:
    """Does not return when the process ends, but for the thread that ends it. To be called without a lock."""
    if _enders and threading.get_ident() not in _enders:
        never = threading.Lock()
        never.acquire()
        never.acquire()


def _end_all() -> None:
    _enders.append(threading.get_ident())
    for holder in list(_all):
        holder.end()


atexit.register(_end_all)
