"""How do event loops run on while the model computes? One thread runs the steps for all who wait on event loops.

It is started when somebody waits, sleeps while nobody does, and ends by itself a little later; at exit it ends after
the step that it is in. Any number of replies share it: each is a generator that gets on between two steps (`steps.py`),
and what comes of it is handed to its own loop. So 500 replies on a loop are 500 small objects, and not 500 threads.

Calls that may take long, such as a caller's own rankers, have a few threads of their own: they hold up nobody else.
"""

from __future__ import annotations

import atexit
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, cast
from weakref import WeakSet

from .after_fork import renew_after_fork
from .scheduler import Scheduler
from .steps import Call, Need, Result, Step, Steps

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Executor

_LINGER = 1.0  # seconds without work after which the thread ends
_CALLS_AT_ONCE = 4


class Driver:
    """Runs the steps of those who wait on event loops. Safe from many loops and threads."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._turn = 0
        self.renew_after_fork()
        renew_after_fork(self)
        _all.add(self)

    async def run(self, steps: Steps[Result], stop: Callable[[], None], leave: Callable[[], None]) -> Result:
        """The result of `steps`, while the event loop runs on.

        A caller that is cancelled calls `stop`, waits until nothing works on `steps` any more, and then leaves: it may
        close what they work on. A caller that is dropped cannot wait: then `leave` is called, here or in the thread,
        once nothing works on them. Neither may block.
        """
        import asyncio  # here: it would be a tenth of the package's import time

        loop = asyncio.get_running_loop()
        errand = _Errand(steps, loop, loop.create_future())
        future = errand.future
        self._submit(errand)
        try:
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                stop()
                while not future.done():
                    with suppress(asyncio.CancelledError):  # once more: the first one is passed on below
                        await asyncio.wait([future])
                future.exception()  # nobody is left who could want it
                raise
        except GeneratorExit:
            stop()
            errand.leave(leave)
            raise
        finally:
            del errand, future  # an error's traceback holds this frame, and the future holds the error

    def renew_after_fork(self) -> None:
        """In a child after fork(): the thread and those for whom it worked stayed with the parent."""
        self._lock = threading.RLock()
        self._inbox: SimpleQueue[_Errand[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._calls: Executor | None = None
        self._closed = False

    def close(self) -> None:
        """At the end of the process: no further step; returns once the thread has ended."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._inbox.put(None)
            thread.join()

    def _submit(self, errand: _Errand[Any]) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("expected a running process, found one that is ending; ask before that")
            self._inbox.put(errand)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="dialocpp-driver", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        waiting: list[_Errand[Any]] = []
        try:
            while self._receive(waiting):
                self._get_on(waiting)
                if waiting:
                    self._step(waiting)
        except BaseException as error:
            # Only from outside, such as an exception that somebody injected into this thread.
            for errand in waiting:
                errand.fail(error)
            with self._lock:
                self._thread = None
            raise

    def _receive(self, waiting: list[_Errand[Any]]) -> bool:
        """Add what has come in; sleep while there is nothing to do. False: this is the end."""
        try:
            while True:
                errand = self._inbox.get_nowait() if waiting else self._inbox.get(timeout=_LINGER)
                if errand is None:
                    return False
                waiting.append(errand)
        except Empty:
            return bool(waiting) or not self._ends()

    def _ends(self) -> bool:
        with self._lock:
            if not self._inbox.empty():
                return False
            if self._calls is not None:
                self._calls.shutdown(wait=False)
            self._thread = self._calls = None
            return True

    def _get_on(self, waiting: list[_Errand[Any]]) -> None:
        """Everybody gets on as far as no step is needed; who still waits for one is left in the list."""
        ended = defaultdict(list)
        for index in range(len(waiting)):
            errand = waiting[index]
            need = errand.get_on()
            if need is None:
                ended[errand.loop].append(errand)
            elif isinstance(need, Call):
                self._call(errand)
        waiting[:] = [errand for errand in waiting if isinstance(errand.need, Step)]
        for loop, errands in ended.items():
            _hand_over(loop, errands)

    def _step(self, waiting: list[_Errand[Any]]) -> None:
        """One step, which serves all jobs that there is room for; each time another one's comes first."""
        self._turn += 1
        waiting[self._turn % len(waiting)].run_need(self._scheduler)

    def _call(self, errand: _Errand[Any]) -> None:
        with self._lock:
            if self._calls is None:
                from concurrent.futures import ThreadPoolExecutor

                self._calls = ThreadPoolExecutor(_CALLS_AT_ONCE, "dialocpp-call")
            self._calls.submit(self._run_call, errand)

    def _run_call(self, errand: _Errand[Any]) -> None:
        errand.run_need(self._scheduler)
        with suppress(RuntimeError):  # the process ends
            self._submit(errand)


class _Errand(Generic[Result]):
    """Steps, and who waits for what comes of them. `need`: what they wait for; None once they have ended."""

    def __init__(self, steps: Steps[Result], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]) -> None:
        self.loop = loop
        self.future = future
        self.need: Need | None = None
        self._resume: Callable[[], Need] = partial(next, steps)
        self._steps: Steps[Result] | None = steps
        self._settle: Callable[[], None] | None = None  # gives the future what came of it
        self._lock = threading.RLock()
        self._leave: Callable[[], None] | None = None

    def get_on(self) -> Need | None:
        """As far as possible; what is needed then."""
        try:
            self.need = self._resume()
        except StopIteration as end:
            self._end(partial(self.future.set_result, end.value))
        except BaseException as error:
            # Without this frame, which holds the future that holds the error.
            trace = error.__traceback__
            self._end(partial(self.future.set_exception, error.with_traceback(trace and trace.tb_next)))
        return self.need

    def run_need(self, scheduler: Scheduler) -> None:
        """Do what is needed; the steps get what comes of it when they get on."""
        steps, need = self._steps, self.need
        assert steps is not None and need is not None
        try:
            self._resume = partial(steps.send, need.run(scheduler))
        except BaseException as error:
            self._resume = partial(cast(Callable[[BaseException], Need], steps.throw), error)

    def fail(self, error: BaseException) -> None:
        """Nobody works on it any more."""
        if self._steps is not None:
            self._steps.close()
        told = RuntimeError(f"expected the thread that runs the steps to go on, found it ended by {error!r}; ask again")
        self._end(partial(self.future.set_exception, told))
        _hand_over(self.loop, [self])

    def leave(self, call: Callable[[], None]) -> None:
        """Nobody waits any more: `call` once nothing works on it."""
        with self._lock:
            if self._steps is not None:
                self._leave = call
                return
        call()

    def settle(self) -> None:
        """In its loop: who waits gets what came of it."""
        if self._settle is not None and not self.future.done():
            self._settle()

    def _end(self, settle: Callable[[], None]) -> None:
        with self._lock:
            leave, self._leave = self._leave, None
            self.need = self._steps = None
            self._resume = _nothing
            self._settle = None if leave else settle
        if leave is not None:
            leave()


def _hand_over(loop: asyncio.AbstractEventLoop, errands: list[_Errand[Any]]) -> None:
    with suppress(RuntimeError):  # the loop was closed: nobody waits
        loop.call_soon_threadsafe(_settle, errands)


def _settle(errands: list[_Errand[Any]]) -> None:
    for errand in errands:
        errand.settle()


def _nothing() -> Need:
    raise AssertionError("these steps have ended")


_all: WeakSet[Driver] = WeakSet()


def _close_all() -> None:
    for driver in list(_all):
        driver.close()


atexit.register(_close_all)
