"""What does one hold while a reply is written? An iterator over its pieces, and the claim on its session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from dialocpp.engine.steps import Steps, drive
from dialocpp.errors import ReplyCancelledError

from .claim import Claim
from .reply import CANCELLED, Reply
from .reply_task import Pieces, ReplyTask

Commit = Callable[[ReplyTask, str], Reply]


class ReplyStream:
    """A reply in the making: an iterator over its pieces; `reply` tells the rest once it has ended."""

    def __init__(self, claim: Claim, task: ReplyTask, commit: Commit) -> None:
        self._claim = claim  # released when the reply ends
        self._task: ReplyTask | None = task  # until the reply ends: it holds pages
        self._commit = commit  # makes the reply a turn of its session
        self._reply: Reply | None = None
        self._cancelled = False
        # Reentrant: the collector may strike anywhere. Not held while a piece is waited for.
        self._using = threading.Condition(threading.RLock())
        self._reader: int | None = None  # the thread that works on the next piece
        # Neither the generator nor the claim knows the stream: so the last reference to a stream closes it at once.
        self._pieces: Pieces | None = task.pieces()
        claim.place.cancel = task.stop
        claim.is_passed_on = True

    @property
    def reply(self) -> Reply:
        """The finished reply; RuntimeError while it is still being written or when nothing came of it.

        ReplyCancelledError when it was stopped before anything was shown.
        """
        if self._reply is not None:
            return self._reply
        if self._cancelled:
            raise ReplyCancelledError("expected a reply, found one that was cancelled before it began; say it again")
        raise RuntimeError("expected a finished reply, found no reply yet; iterate to the end of the stream first")

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> str:
        task = self._task
        if task is None or not self._claim.held:
            raise StopIteration
        self._claim.note_holder()
        try:
            piece = drive(task.scheduler, self.steps())
        except Exception:
            raise
        except BaseException:
            self.close()
            raise
        if piece is None:
            raise StopIteration
        return piece

    def steps(self) -> Steps[str | None]:
        """What leads to the next piece; None at the end. For who does not wait for it here, such as an event loop."""
        me = threading.get_ident()
        try:
            with self._using:
                self._using.wait_for(lambda: self._reader in (None, me))
                if not self._claim.held:
                    return None
                self._reader = me
            piece = yield from self._next_piece()
            if piece is None:
                self._finish()
            return piece
        except Exception:
            self._end()
            raise
        finally:
            with self._using:
                if self._reader == me:
                    self._reader = None
                    self._using.notify_all()

    def close(self) -> None:
        """Stop. What was shown becomes a turn that ended as `cancelled`; if nothing was shown, nothing was said.

        Safe from any thread: one that waits for a piece gets the end of the stream, after the current step.
        """
        if not self._claim.held:
            return
        self.stop()
        with self._using:
            self._using.wait_for(lambda: self._reader in (None, threading.get_ident()))
            if self._claim.held:
                self._finish(is_left=True)

    def stop(self) -> None:
        """Ask for the end and return at once: whoever reads the stream comes to it after the current step."""
        if (task := self._task) is not None:
            task.stop()

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

    def __reduce__(self) -> NoReturn:
        raise TypeError("expected something that can be copied, found a reply in the making; copy its .reply")

    def _next_piece(self) -> Steps[str | None]:
        pieces = self._pieces
        assert pieces is not None
        resume, value = pieces.send, None
        while True:
            try:
                item = resume(value)
            except StopIteration:
                return None
            if isinstance(item, str):
                return item
            try:
                value, resume = (yield item), pieces.send
            except Exception as error:
                value, resume = error, pieces.throw

    def _finish(self, *, is_left: bool = False) -> None:
        """The reply has ended, or is left. Then this waits for nothing: an event loop may be here."""
        task = self._task
        if task is None:  # an interrupt came in the way of its end
            self._claim.release()
            return
        reason = CANCELLED if is_left else task.finish_reason or CANCELLED
        try:
            task.close()
            if reason != CANCELLED or task.text:
                self._reply = self._commit(task, reason)
            else:
                self._cancelled = True
        finally:
            self._end()

    def _end(self) -> None:
        """The session is free, and no page is held here any more. After an error nothing was said."""
        try:
            if self._task is not None:
                self._task.free()
        finally:
            self._claim.release()
            self._task = self._pieces = None
