"""What does one hold while a reply is written? An iterator over its pieces, and the claim on its session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from .claim import Claim
from .reply import CANCELLED, Reply
from .reply_task import ReplyTask


class ReplyStream:
    """A reply in the making: an iterator over its pieces; `reply` tells the rest once it has ended."""

    def __init__(self, claim: Claim, task: ReplyTask, commit: Callable[[ReplyTask, str], Reply]) -> None:
        self._claim = claim  # released when the reply ends
        self._task = task
        self._commit = commit  # makes the reply a turn of its session
        self._reply: Reply | None = None
        self._using = threading.RLock()  # reentrant: the collector may strike anywhere
        # The generator knows the task and not the stream: so the last reference to a stream closes it at once.
        self._pieces = task.pieces()

    @property
    def reply(self) -> Reply:
        """The finished reply; RuntimeError while it is still being written or when nothing came of it."""
        if self._reply is None:
            raise RuntimeError("expected a finished reply, found no reply yet; iterate to the end of the stream first")
        return self._reply

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> str:
        if not self._claim.held:
            raise StopIteration
        with self._using:
            if not self._claim.held:
                raise StopIteration
            try:
                piece = next(self._pieces, None)
            except Exception:
                self._take_back()
                raise
            except BaseException:
                self.close()
                raise
            if piece is None:
                self._finish(self._task.finish_reason or CANCELLED)
                raise StopIteration
            return piece

    def close(self) -> None:
        """Stop. What was shown becomes a turn that ended as `cancelled`; if nothing was shown, nothing was said.

        Safe from any thread: one that waits for a piece gets the end of the stream, after the current step.
        """
        if not self._claim.held:
            return
        self.stop()
        with self._using:
            if self._claim.held:
                self._finish(CANCELLED)

    def stop(self) -> None:
        """Ask for the end and return at once: whoever reads the stream comes to it after the current step."""
        self._task.stop()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_pieces"):
            with suppress(RuntimeError):  # the parent's, after fork()
                self.close()

    def _take_back(self) -> None:
        """After an error: as if nothing had been said."""
        try:
            self._task.free()
        finally:
            self._claim.release()

    def _finish(self, reason: str) -> None:
        try:
            self._task.close()
            if reason != CANCELLED or self._task.text:
                self._reply = self._commit(self._task, reason)
            self._task.free()
        finally:
            self._claim.release()
