"""Who may speak in a session now, and who is next?

The callers stand in a queue, and the first one has the session. All that a claim is lies in that queue, which changes
by single operations of a deque: an exception that strikes at any moment, as Ctrl-C does, leaves no session that is
taken and held by nobody. The queue knows places and not claims: a claim that is dropped gives up its place.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from dialocpp.engine.after_fork import renew_after_fork


class Occupancy:
    """One caller at a time: a second one gets an error instead of a broken history, or waits for its turn.

    In a child after fork() the session is free, and a claim of the parent's is void: its reply is the parent's.
    """

    def __init__(self) -> None:
        self.renew_after_fork()
        renew_after_fork(self)

    def claim(self, *, wait: bool = False, seconds: float | None = None) -> Claim:
        """The session for this caller, until the claim is released. RuntimeError while another one has it.

        `wait`: first come, first served, for so many `seconds` at most; then TimeoutError. RuntimeError where the
        caller would wait for itself: the session is held in this thread.
        """
        claim = Claim(self)
        try:
            claim.take(wait, seconds)
            return claim
        except BaseException:
            claim.release()
            raise

    async def aclaim(self, *, wait: bool = False, seconds: float | None = None) -> Claim:
        """`claim`, while the event loop runs on. RuntimeError where the same task holds the session."""
        claim = Claim(self)
        try:
            await claim.atake(wait, seconds)
            return claim
        except BaseException:
            claim.release()
            raise

    @property
    def holder(self) -> Place | None:
        """The place that has the session."""
        return _first(self.queue)

    def renew_after_fork(self) -> None:
        """In a child after fork(): whoever held the session stayed with the parent."""
        self.queue: deque[Place] = deque()


class Place:
    """A place in the queue. `cancel` stops the reply that it is held for, from any thread and without waiting."""

    def __init__(self) -> None:
        self.cancel: Callable[[], None] = _nothing
        self.wake: Callable[[], object] = _nothing
        self.thread = 0
        self.task: Any = None


class Claim:
    """Holds a session for one caller. `since`: when it was asked for, in seconds of time.perf_counter.

    `is_passed_on`: something else releases it when it is dropped.
    """

    def __init__(self, occupancy: Occupancy) -> None:
        self.since = time.perf_counter()
        self.is_passed_on = False
        self.place = Place()
        self._occupancy = occupancy
        self._queue = occupancy.queue
        self.note_holder()

    @property
    def held(self) -> bool:
        """Until it is released. RuntimeError in a child after fork()."""
        if _first(self._queue) is not self.place:
            return False
        if self._occupancy.queue is not self._queue:
            raise RuntimeError(
                "expected the process that began this reply, found a child of it: the parent process goes on with "
                "the reply; call reply or stream again for another"
            )
        return True

    def note_holder(self) -> None:
        """Whoever calls this goes on with the reply."""
        self.place.thread, self.place.task = threading.get_ident(), _current_task()

    def take(self, wait: bool, seconds: float | None) -> None:
        """Occupancy.claim."""
        place, holder = self.place, _first(self._queue)
        if holder is not None and (not wait or holder.thread == place.thread):
            raise _busy()
        gate = threading.Lock()
        gate.acquire()
        place.wake = partial(_open, gate)
        self._queue.append(place)
        while not self.held:
            if not wait:  # another one came first, just now
                raise _busy()
            left = -1.0 if seconds is None else max(0.0, self.since + seconds - time.perf_counter())
            if not gate.acquire(timeout=left) and not self.held:
                raise _too_late(seconds)

    async def atake(self, wait: bool, seconds: float | None) -> None:
        """Occupancy.aclaim."""
        import asyncio

        place, holder = self.place, _first(self._queue)
        if holder is not None and (not wait or (holder.thread == place.thread and holder.task is place.task)):
            raise _busy()
        loop, turn = asyncio.get_running_loop(), asyncio.Event()
        place.wake = partial(loop.call_soon_threadsafe, turn.set)
        self._queue.append(place)
        timer = None if seconds is None or self.held else loop.call_later(seconds, turn.set)
        try:
            while not self.held:
                if not wait:
                    raise _busy()
                await turn.wait()
                turn.clear()
                if seconds is not None and time.perf_counter() - self.since >= seconds and not self.held:
                    raise _too_late(seconds)
        finally:
            if timer is not None:
                timer.cancel()

    def release(self) -> None:
        """Let the next one in; once is enough, and twice does no harm."""
        try:
            with suppress(ValueError):
                self._queue.remove(self.place)
        finally:
            self.place.cancel = _nothing
            if (first := _first(self._queue)) is not None:
                with suppress(RuntimeError):  # its event loop is closed
                    first.wake()

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if hasattr(self, "_queue") and not self.is_passed_on:
            self.release()


def _first(queue: deque[Place]) -> Place | None:
    with suppress(IndexError):
        return queue[0]
    return None


def _open(gate: threading.Lock) -> None:
    with suppress(RuntimeError):  # it is open
        gate.release()


def _nothing() -> None:
    pass


def _current_task() -> Any:
    """The asyncio task that runs here, if any."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _busy() -> RuntimeError:
    return RuntimeError(
        "expected a session that is free, found it in the middle of a reply; finish or close that stream first, "
        "fork() the session for a second conversation, or give it on_busy='wait'"
    )


def _too_late(seconds: float | None) -> TimeoutError:
    return TimeoutError(
        f"expected the session to be free within max_time, {seconds} s, found it in the middle of a reply; "
        "ask again later, or give it more time"
    )
