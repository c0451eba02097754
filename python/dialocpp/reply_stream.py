"""What does one hold while an answer is written? An iterator over its pieces, and the claim on its session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from .answer import CANCELLED, Answer
from .reply import Reply


class Claim:
    """Holds a session for one caller; a second caller gets an error instead of a broken history."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        if not lock.acquire(blocking=False):
            raise RuntimeError(
                "This session is in the middle of a reply; finish or close that stream first, "
                "or fork() the session for a second conversation."
            )
        self.held = True

    def release(self) -> None:
        """Let others in; once is enough, and twice does no harm."""
        if self.held:
            self.held = False
            self._lock.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class ReplyStream:
    """An answer in the making: an iterator over its pieces; `reply` tells the rest once it has ended."""

    def __init__(self, claim: Claim, answer: Answer, commit: Callable[[Answer, str], Reply]) -> None:
        self._claim = claim  # released when the answer ends
        self._answer = answer
        self._commit = commit  # makes the answer a turn of its session
        self._reply: Reply | None = None
        # The generator knows the answer and not the stream: so the last reference to a stream closes it at once.
        self._pieces = answer.pieces()

    @property
    def reply(self) -> Reply:
        """The finished reply; RuntimeError while it is still being written or when nothing came of it."""
        if self._reply is None:
            raise RuntimeError("There is no reply yet; iterate to the end of the stream first.")
        return self._reply

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> str:
        if not self._claim.held:
            raise StopIteration
        try:
            piece = next(self._pieces, None)
        except BaseException:
            self.close()
            raise
        if piece is None:
            self._finish(self._answer.finish_reason or CANCELLED)
            raise StopIteration
        return piece

    def close(self) -> None:
        """Stop. What was shown becomes a turn that ended as `cancelled`; if nothing was shown, nothing was said."""
        if self._claim.held:
            self._finish(CANCELLED)

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_pieces"):
            self.close()

    def _finish(self, reason: str) -> None:
        try:
            self._answer.close()
            if reason != CANCELLED or self._answer.text:
                self._reply = self._commit(self._answer, reason)
            self._answer.forget()
        finally:
            self._claim.release()
