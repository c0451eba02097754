"""What do tests of threads need? An engine whose steps can be held, counted and interrupted, without any clock."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dialocpp import Model

# Long enough for any machine: only a deadlock, and so a failing test, waits this long.
PATIENCE = 120


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE), "nobody came: a deadlock"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does, when it has no event to tell so."""
    pause = threading.Event()
    for _ in range(PATIENCE * 1000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it never happened: a deadlock")


class HeldEngine:
    """The model's engine; `before` is called in front of each step, by the thread that runs it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.steps = 0  # that were run to their end
        self.before: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, work: Any) -> Any:
        self.before()
        chosen = self._engine.step(work)
        self.steps += 1
        return chosen


class Hold:
    """The next step waits: `entered` says that it has begun, `go` lets it go on."""

    def __init__(self, engine: HeldEngine) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        engine.before = self._wait
        self._engine = engine

    def _wait(self) -> None:
        self._engine.before = lambda: None
        self.entered.set()
        wait_for(self.go)


@contextmanager
def held_engine(model: Model) -> Iterator[HeldEngine]:
    """The model's scheduler drives a HeldEngine."""
    scheduler: Any = model.runtime.scheduler
    original = scheduler.engine
    scheduler.engine = HeldEngine(original)
    try:
        yield scheduler.engine
    finally:
        scheduler.engine = original


def in_threads(*works: Callable[[], None]) -> None:
    """All at once, from one barrier; the first error of any is raised here."""
    barrier, errors = threading.Barrier(len(works)), []

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait(PATIENCE)
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a deadlock"
    if errors:
        raise errors[0]
