"""How does an event loop run on while the model computes? Every call that may wait for a step is made in a thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def in_background(call: Callable[[], Result], stop: Callable[[], None] | None = None) -> Result:
    """`call()` in a thread. A caller that is cancelled calls `stop`, waits until `call` has ended, and then leaves.

    Left alone, the call would go on with what the caller is about to close. `stop` must not block.
    """
    import asyncio  # here: it would be a tenth of the package's import time

    task = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not task.done():
            with suppress(asyncio.CancelledError):  # once more: the first one is passed on below
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left who could want it
        raise
