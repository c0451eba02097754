"""Who may speak in a session now?"""

from __future__ import annotations

import threading
from types import TracebackType

from dialocpp.engine.after_fork import renew_after_fork


class Occupancy:
    """One caller at a time: a second one gets an error instead of a broken history.

    In a child after fork() the session is free, and a claim of the parent's is void: its reply is the parent's.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        renew_after_fork(self)

    def claim(self) -> Claim:
        """The session for this caller, until the claim is released. RuntimeError while another one has it."""
        return Claim(self)

    def renew_after_fork(self) -> None:
        """In a child after fork(): whoever held the lock stayed with the parent."""
        self.lock = threading.Lock()


class Claim:
    """Holds a session for one caller."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._occupancy = occupancy
        self._lock = occupancy.lock
        self._held = False
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "expected a session that is free, found it in the middle of a reply; finish or close that stream "
                "first, or fork() the session for a second conversation"
            )
        self._held = True

    @property
    def held(self) -> bool:
        """Until it is released. RuntimeError in a child after fork()."""
        if self._held and self._occupancy.lock is not self._lock:
            raise RuntimeError(
                "expected the process that began this reply, found a child of it: the parent process goes on with "
                "the reply; call reply or stream again for another"
            )
        return self._held

    def release(self) -> None:
        """Let others in; once is enough, and twice does no harm."""
        if self._held:
            self._held = False
            self._lock.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
