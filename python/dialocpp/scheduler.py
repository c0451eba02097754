"""Who runs next? Requests of all callers share the steps of one engine: plan, run, commit.

There is no thread of its own. Whoever waits for a token runs the next step for everybody, so Ctrl-C, deadlines and
callers that leave are ordinary Python between two steps, and an idle process does nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import _core
from .after_fork import forget_after_fork
from .errors import DialocppError

# Tokens that one step reads at most, so that a long prompt can be cancelled and does not stall the others.
STEP_TOKENS = 256
# How far a reply may run ahead of a caller who reads it slowly.
RUN_AHEAD = 32


@dataclass(eq=False)
class Request:
    """One reply in the making. Its state is `generated` alone; all else follows from it and from the sequence.

    A step that was interrupted before its token was noted here is therefore simply run again, with the same result.
    """

    sequence: _core.Sequence
    prompt: list[int]
    sampling: _core.Sampling
    max_new_tokens: int
    eos_token_ids: tuple[int, ...]
    n_positions: int
    cached_tokens: int = 0
    generated: list[int] = field(default_factory=list)
    taken: int = 0  # of `generated`, by the caller
    error: Exception | None = None
    cancelled: bool = False
    submitted: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0

    @property
    def finish_reason(self) -> str | None:
        """`eos`, `length`, or None while there is more to come."""
        if self.generated and self.generated[-1] in self.eos_token_ids:
            return "eos"
        full = len(self.prompt) + len(self.generated) > self.n_positions
        return "length" if full or len(self.generated) >= self.max_new_tokens else None

    @property
    def reply_ids(self) -> list[int]:
        """The generated ids without the end-of-text."""
        return self.generated[:-1] if self.finish_reason == "eos" else self.generated


class Scheduler:
    """Continuous batching over one engine; safe from many threads."""

    def __init__(self, engine: _core.Engine) -> None:
        self._engine = engine
        # Reentrant: the collector may close an abandoned stream, which cancels, in the middle of a step.
        self._lock = threading.RLock()
        self._live: list[Request] = []
        forget_after_fork(self)

    def submit(self, request: Request) -> None:
        """Queue a request; what its sequence already holds of the prompt is not read again."""
        held = request.sequence.tokens
        common = _common_prefix(held, request.prompt)
        if common < len(held):
            request.sequence.truncate(common)
        request.cached_tokens = min(common, len(request.prompt) - 1)
        request.submitted = time.perf_counter()
        with self._lock:
            self._live.append(request)

    def cancel(self, request: Request) -> None:
        """Forget a request; it returns once no step works on it. Who waits for its next token gets None instead."""
        request.cancelled = True  # seen between two steps, also by a thread that holds the lock from one to the next
        with self._lock:
            self._live = [other for other in self._live if other is not request]

    def next_token(self, request: Request) -> int | None:
        """The request's next token, end-of-text included; None when there is no more. Raises the request's error."""
        while True:
            with self._lock:
                if request.taken < len(request.generated):
                    request.taken += 1
                    return request.generated[request.taken - 1]
                if request.error is not None:
                    raise _bare(request.error)
                if request.finish_reason is not None or request.cancelled:
                    return None
                self._step(request)

    def forget(self) -> None:
        """In a child after fork(): the lock may be held by a thread that is not here, nor are the callers."""
        self._lock = threading.RLock()
        self._live = []

    def _step(self, needed: Request) -> None:
        self._live = [r for r in self._live if r.finish_reason is None and r.error is None]
        requests, work = self._plan(needed)
        try:
            tokens = self._engine.step(work)
        except (DialocppError, ValueError) as error:
            self._run_alone(requests, work, error)
            return
        _commit(requests, work, tokens)

    def _plan(self, needed: Request) -> tuple[list[Request], list[_core.Work]]:
        """Work for everybody who is not too far ahead: replies first, then prompts within the step's budget."""
        # The caller's own request comes first: whoever runs the step must get on.
        others = [r for r in self._live if r is not needed and len(r.generated) - r.taken < RUN_AHEAD]
        order = [needed, *sorted(others, key=lambda r: not r.generated)]
        budget = STEP_TOKENS
        requests: list[Request] = []
        work: list[_core.Work] = []
        for request in order:
            known = request.prompt + request.generated
            start = min(len(request.sequence), len(known) - 1)
            if start < len(request.sequence):
                request.sequence.truncate(start)
            tokens = known[start : start + max(budget, 1)]
            if requests and len(tokens) > budget:
                break
            budget -= len(tokens)
            asks = start + len(tokens) == len(known)
            work.append(_core.Work(request.sequence, tokens, request.sampling if asks else None))
            requests.append(request)
            if budget <= 0:
                break
        return requests, work

    def _run_alone(self, requests: list[Request], work: list[_core.Work], error: Exception) -> None:
        """One request's error must not reach the others: run each by itself and note whose it was."""
        if len(requests) == 1:
            _fail(requests[0], error)
            return
        for request, item in zip(requests, work, strict=True):
            self._run_one(request, item)

    def _run_one(self, request: Request, item: _core.Work) -> None:
        try:
            tokens = self._engine.step([item])
        except (DialocppError, ValueError) as own:
            _fail(request, own)
        else:
            _commit([request], [item], tokens)


def _commit(requests: Sequence[Request], work: Sequence[_core.Work], tokens: Sequence[int]) -> None:
    now = time.perf_counter()
    for request, token in zip(requests, tokens, strict=True):
        if token < 0:
            continue
        if not request.generated:
            request.first_token = now
        request.last_token = now
        request.generated.append(token)


def _fail(request: Request, error: Exception) -> None:
    """Note whose error it was. What the request took of the cache is given back, perhaps to the next one."""
    request.error = _bare(error)
    request.sequence.truncate(min(len(request.sequence), request.cached_tokens))


def _bare(error: Exception) -> Exception:
    """The error without its traceback: held by a request, that would hold the request and its pages."""
    return type(error)(*error.args)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return index
    return min(len(a), len(b))
