"""Who may speak in a session now?"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Protocol


class Claimable(Protocol):
    """A session: its lock is another one in a child after fork(), and the claims of the parent are void there."""

    _busy: threading.Lock


class Claim:
    """Holds a session for one caller; a second caller gets an error instead of a broken history."""

    def __init__(self, session: Claimable) -> None:
        self._session = session
        self._lock = session._busy
        self._held = False
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "This session is in the middle of a reply; finish or close that stream first, "
                "or fork() the session for a second conversation."
            )
        self._held = True

    @property
    def held(self) -> bool:
        """Until it is released. RuntimeError in a child after fork()."""
        if self._held and self._session._busy is not self._lock:
            raise RuntimeError("The parent process goes on with this reply; call reply or stream again for another.")
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
