"""How is one piece of code written for a caller who waits and for an event loop? As a generator that yields its needs.

It gets on by itself as far as it can, and yields what somebody must do for it next: a step of the engine, or a call
that may take long. A caller who waits does that at once (`drive`); the `Driver` of event loops does it for all of
theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from .job import Job, TokenJob
from .scheduler import Scheduler

Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """A step for this job is needed, unless it is `met` meanwhile: others' steps serve the job too."""

    job: Job
    met: Callable[[], bool]

    def run(self, scheduler: Scheduler) -> None:
        """Wait for it. Raises the job's error."""
        scheduler.advance(self.job, unless=self.met)


@dataclass(frozen=True)
class Call:
    """The result of this function is needed. It may be a caller's own, and may take long."""

    function: Callable[[], Any]

    def run(self, scheduler: Scheduler) -> Any:
        """Wait for it. Raises the function's error."""
        return self.function()


Need = Step | Call
Steps = Generator[Need, Any, Result]


def drive(scheduler: Scheduler, steps: Steps[Result]) -> Result:
    """The result, for a caller who waits: it does itself what is needed."""
    try:
        need = next(steps)
        while True:
            need = _resumed(steps, need, scheduler)
    except StopIteration as end:
        result: Result = end.value
        return result


def next_token(scheduler: Scheduler, job: TokenJob) -> Steps[int | None]:
    """The job's next token, end-of-text included; None when there is no more. Raises the job's error."""
    while (token := job.take()) is None:
        if scheduler.is_over(job):
            return job.take()
        yield Step(job, lambda: job.has_token)
    return token


def finish(scheduler: Scheduler, job: Job) -> Steps[None]:
    """The job is done. Raises its error."""
    while not scheduler.is_over(job):
        yield Step(job, lambda: job.done)


def _resumed(steps: Steps[Result], need: Need, scheduler: Scheduler) -> Need:
    """What is needed after that."""
    try:
        answer = need.run(scheduler)
    except Exception as error:
        return steps.throw(error)
    return steps.send(answer)
