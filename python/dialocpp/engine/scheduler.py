"""Who runs next? The jobs of all callers share the steps of one engine: plan, run, commit.

There is no thread of its own. Whoever waits for a result runs the next step for everybody, so Ctrl-C, deadlines and
callers that leave are ordinary Python between two steps, and an idle process does nothing.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Sequence

from dialocpp import _core
from dialocpp.errors import DialocppError

from .after_fork import renew_after_fork
from .at_exit import end_at_exit, stay_if_ending
from .job import CancelledJobError, Job, SequenceJob, TokenJob
from .job_errors import bare, is_interrupt, kept

# Tokens that one step reads at most, so that a long prompt can be cancelled and does not stall the others.
STEP_TOKENS = 256

# Seconds that the end of the process waits for a step: a caller's own function in it may never return.
_END_PATIENCE = 5.0


class Scheduler:
    """Continuous batching over one engine; safe from many threads."""

    def __init__(self, engine: _core.Engine) -> None:
        self.engine = engine
        # Reentrant: the collector may close an abandoned stream, which cancels, in the middle of a step.
        self._lock = threading.RLock()
        # By id, in the order of submission. A job leaves at once, whoever holds the lock; and one that nobody else
        # holds has left, so that no exception, wherever it strikes, leaves a job here that nobody waits for.
        self._live: dict[int, weakref.ref[Job]] = {}
        self._stepping = False
        renew_after_fork(self)
        end_at_exit(self)

    def submit(self, job: Job) -> None:
        """Queue a job; whoever waits for a result next runs it too."""
        with self._lock:  # between two steps: the last one may still work on a sequence whose job was abandoned
            job.begin()
            live, key = self._live, id(job)
            live[key] = weakref.ref(job, lambda _: live.pop(key, None))

    def abandon(self, job: Job) -> None:
        """Serve a job no more. Returns at once; whoever waits for the job gets CancelledJobError after this step."""
        job.cancelled = True  # seen between two steps, also by a thread that holds the lock from one to the next
        self._live.pop(id(job), None)

    def cancel(self, job: Job) -> None:
        """`abandon`, and return once no step works on the job."""
        self.abandon(job)
        with self._lock:
            pass

    def is_over(self, job: Job) -> bool:
        """Is the job done? Raises its error; CancelledJobError for one that is served no more."""
        if job.error is not None:
            raise bare(job.error)
        if job.done:
            return True
        if job.cancelled:
            raise CancelledJobError
        return False

    def finish(self, job: Job) -> None:
        """Run steps until the job is done. Raises the job's error."""
        while self.advance(job):
            pass

    def next_token(self, job: TokenJob) -> int | None:
        """The job's next token, end-of-text included; None when there is no more. Raises the job's error."""
        while True:
            stay_if_ending()
            with self._lock:
                token = job.take()
                if token is not None or not self._advance(job):
                    return token

    def advance(self, job: Job, unless: Callable[[], bool] | None = None) -> bool:
        """One step for the job, and for whoever else there is room; False if it is done. Raises the job's error.

        No step if `unless()`, asked once no other step runs: that one may have brought what was waited for.
        """
        stay_if_ending()
        with self._lock:
            if unless is not None and not self.is_over(job) and unless():
                return True
            return self._advance(job)

    def fork(self, job: SequenceJob, length: int) -> _core.Sequence:
        """A fork of a running job's sequence, between two steps. Raises the job's error."""
        with self._lock:
            if job.error is not None:
                raise bare(job.error)
            return job.sequence.fork(length)

    def renew_after_fork(self) -> None:
        """In a child after fork(): the lock may be held by a thread that is not here, nor are the callers."""
        self._lock = threading.RLock()
        self._live = {}
        self._stepping = False

    def end(self) -> None:
        """At the end of the process: returns once no other thread's step runs; none begins from then on."""
        if not self._lock.acquire(timeout=_END_PATIENCE):
            self.renew_after_fork()  # as there, whoever holds the lock does not come back
            self._lock.acquire()

    def _advance(self, job: Job) -> bool:
        if self.is_over(job):
            return False
        if self._stepping and self._is_in_a_step():
            raise RuntimeError(
                "expected no step of this model inside a function that a step calls, such as a logits_processor, "
                "found one; use model.logits() or another Model in it"
            )
        self._stepping = True
        try:
            self._step(job)
        finally:
            self._stepping = False
        return True

    def _is_in_a_step(self) -> bool:
        """Is this called from a step, for the lock is reentrant? An interrupt may have left the flag set."""
        code, frame = Scheduler._step.__code__, sys._getframe().f_back
        while frame is not None:
            if frame.f_code is code and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def _jobs(self) -> list[Job]:
        """Those that are served, in the order of submission."""
        return [job for reference in list(self._live.values()) if (job := reference()) is not None]

    def _step(self, needed: Job) -> None:
        for job in self._jobs():
            if job.done or job.error is not None or job.cancelled:
                self._live.pop(id(job), None)
        planned = self._plan(needed)
        if not planned:  # the needed job has failed
            return
        try:
            outcomes = self.engine.step([item for _, work in planned for item in work])
        except (DialocppError, ValueError) as error:
            self._run_alone(planned, error)
            return
        self._commit(planned, outcomes)

    def _plan(self, needed: Job) -> list[tuple[Job, list[_core.Work]]]:
        """Work for everybody who is not too far ahead: writers first, then readers within the step's budget."""
        # The caller's own job comes first: whoever runs the step must get on.
        others = [job for job in self._jobs() if job is not needed and not job.waits]
        budget = STEP_TOKENS
        planned = []
        for job in [needed, *sorted(others, key=lambda job: not job.writes)]:
            if budget <= 0:
                break
            try:
                work = job.plan(budget)
            except BaseException as error:
                # As in `_commit_one`: nobody else's. Whoever waits for the job finds it there.
                if is_interrupt(error):
                    raise
                _fail(job, error)
                continue
            if work:
                budget -= sum(len(item) for item in work)
                planned.append((job, work))
        return planned

    def _commit(self, planned: list[tuple[Job, list[_core.Work]]], outcomes: list[_core.Outcome]) -> None:
        start = 0
        for job, work in planned:
            self._commit_one(job, outcomes[start : start + len(work)])
            start += len(work)

    @staticmethod
    def _commit_one(job: Job, outcomes: Sequence[_core.Outcome]) -> None:
        """What a job calls may be its caller's own function: whatever that raises is nobody else's."""
        try:
            job.commit(outcomes)
        except BaseException as error:
            if is_interrupt(error):
                raise
            job.error = kept(error)

    def _run_alone(self, planned: list[tuple[Job, list[_core.Work]]], error: Exception) -> None:
        """One job's error must not reach the others: run each by itself and note whose it was."""
        if len(planned) == 1:
            _fail(planned[0][0], error)
            return
        for entry in planned:
            self._run_one(entry)

    def _run_one(self, entry: tuple[Job, list[_core.Work]]) -> None:
        try:
            outcomes = self.engine.step(entry[1])
        except (DialocppError, ValueError) as error:
            _fail(entry[0], error)
        else:
            self._commit([entry], outcomes)


def _fail(job: Job, error: BaseException) -> None:
    """Note whose error it was. What the job took of the cache is given back, perhaps to the next one."""
    job.error = kept(error)
    job.give_back()
