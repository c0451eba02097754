"""What must a child make new after fork()? The locks and the calls of threads that stayed with its parent.

The core's own locks are free and its sequences whole in a child (`src/base/fork_safe_mutex.h`), so that a child goes on
with the model it inherited. Replies that were being written belong to the parent.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something with state that only the parent's threads could have put in order."""

    def renew_after_fork(self) -> None:
        """Called once in each child, before it runs anything else."""


_all: WeakSet[Renewable] = WeakSet()


def renew_after_fork(holder: Renewable) -> None:
    """Call `holder.renew_after_fork()` in every child, as long as `holder` lives."""
    _all.add(holder)


def _in_child() -> None:
    for holder in list(_all):
        holder.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
