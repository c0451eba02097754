"""What does a task of an event loop hold while a reply is written? An asynchronous iterator over its pieces.

A stream is left when its last reference is gone, as with `break`, `return` or an exception in `async for piece in
chat.astream(…)`, where only the loop held it; or by aclose(), or at the end of its `async with`. The session is then
free at once, and what was shown stays: leaving waits for nothing, for the step that may still run is waited for by
whoever speaks next. A stream that somebody still holds is in the middle of its reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from dialocpp.engine.background import Driver
from dialocpp.engine.steps import Steps

from .claim import Claim
from .reply import Reply
from .reply_stream import ReplyStream

if TYPE_CHECKING:
    import asyncio


class AsyncReplyStream:
    """A reply in the making, for asyncio. Nothing happens before its first piece is asked for.

    `reply` tells the rest once it has ended.
    """

    def __init__(
        self, driver: Driver, claim: Callable[[], Awaitable[Claim]], begin: Callable[[Claim], ReplyStream]
    ) -> None:
        self._driver = driver
        self._take = claim
        self._begin = begin
        self._claim: Claim | None = None
        self._stream: ReplyStream | None = None
        self._ended = False
        self._idle: asyncio.Future[None] | None = None  # done when the task that reads has come back

    @property
    def reply(self) -> Reply:
        """The finished reply; RuntimeError while it is still being written or when nothing came of it.

        ReplyCancelledError when it was stopped before anything was shown.
        """
        if self._stream is None:
            raise RuntimeError("expected a finished reply, found none begun; iterate to the end of the stream first")
        return self._stream.reply

    def __aiter__(self) -> AsyncReplyStream:
        return self

    async def __anext__(self) -> str:
        piece = await self._read(whole=False)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def read(self) -> Reply:
        """The whole reply: to the end of the stream in one go."""
        await self._read(whole=True)
        return self.reply

    async def aclose(self) -> None:
        """Stop. What was shown becomes a turn that ended as `cancelled`; if nothing was shown, nothing was said.

        A task that waits for a piece gets the end of the stream, after the current step.
        """
        import asyncio

        self._stop()
        if self._idle is None:
            self._leave()
        elif self._claim is not None:  # else its reader waits for its turn, and gives that back
            await asyncio.wait([self._idle])

    async def __aenter__(self) -> AsyncReplyStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError("expected something that can be copied, found a reply in the making; copy its .reply")

    async def _read(self, *, whole: bool) -> str | None:
        """The next piece, or the last; None at the end."""
        import asyncio

        if self._idle is not None:
            raise RuntimeError("expected one task to read this stream, found a second; let one read and tell others")
        if self._ended:
            return None
        self._idle = asyncio.get_running_loop().create_future()
        try:
            if self._claim is None:
                self._claim = await self._take()
            self._claim.note_holder()
            piece = await self._driver.run(self._steps(whole), self._stop, self._leave)
            self._ended |= piece is None
            return piece
        except GeneratorExit:  # the driver still works on it, and calls _leave when it does no more
            raise
        except BaseException:
            self._leave()
            raise
        finally:
            idle, self._idle = self._idle, None
            if not idle.get_loop().is_closed():
                idle.set_result(None)

    def _steps(self, whole: bool) -> Steps[str | None]:
        if self._stream is None:
            assert self._claim is not None
            if self._ended:
                self._claim.release()
                return None
            self._stream = self._begin(self._claim)
        if self._ended:  # looked at after _stop() can see the stream
            self._stream.stop()
        piece = yield from self._stream.steps()
        while whole and piece is not None:
            piece = yield from self._stream.steps()
        return piece

    def _stop(self) -> None:
        """Ask for the end, and return at once."""
        self._ended = True
        if self._stream is not None:
            self._stream.stop()

    def _leave(self) -> None:
        """Nothing works on it any more."""
        self._ended = True
        if self._stream is not None:
            self._stream.close()
        elif self._claim is not None:
            self._claim.release()
