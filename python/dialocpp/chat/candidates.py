"""Which candidates does one attempt at a reply bring, and which of them is the best?

All of an attempt run in one batch, on one reading of the prompt.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from dialocpp import _core
from dialocpp.engine.beam_search import BeamSearch
from dialocpp.engine.job import CancelledJobError, cut_to
from dialocpp.engine.request import RUN_AHEAD, Request
from dialocpp.engine.results import TokenLogprob
from dialocpp.engine.runtime import Runtime
from dialocpp.engine.scheduler import Scheduler
from dialocpp.engine.steps import Call, Step, Steps, finish, next_token
from dialocpp.text.reply_text import ReplyText

from .reply import GUARD, Candidate
from .reply_spec import ReplySpec

# Why a candidate was passed over that no guard objects to: it was not finished, or not ranked, in time.
LATE = "too late"
_RANKED_AT_ONCE = 4  # candidates, where there is a time limit
# Candidates that are written at once; the others begin when one of these has ended, so that a time limit and whoever
# stops the reply are heeded. So many keep their pages till the choice: what else is chosen is read again.
AT_ONCE = 64

CandidateJob = Request | BeamSearch


@dataclass(frozen=True)
class Drawn:
    """A candidate, and the job that wrote it."""

    job: CandidateJob
    candidate: Candidate


class Streamed:
    """A candidate that is read token by token. `text` and `read` tell how far."""

    def __init__(self, scheduler: Scheduler, request: Request, stream: ReplyText) -> None:
        self.request = request
        self.text = ""
        self.read = 0
        self._scheduler = scheduler
        self._stream = stream

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens that were read."""
        return tuple(self.request.generated[: self.read])

    def grow(self) -> Steps[str | None]:
        """The text so far, once it has grown by whole characters; None at its end."""
        while (token := (yield from next_token(self._scheduler, self.request))) is not None:
            if token in self.request.rules.eos_token_ids:
                return None
            self.read += 1
            if piece := self._stream.push(token):
                self.text += piece
                return self.text
        return None

    def whole(self) -> str:
        """At the end: all of the text, with what was held back until it was sure to stay."""
        self.text += self._stream.flush()
        return self.text


class Attempt:
    """One attempt at a reply. `started`: when the first one was begun, by the clock that `max_time` is told by."""

    def __init__(
        self, runtime: Runtime, spec: ReplySpec, sequence: _core.Sequence, number: int, started: float
    ) -> None:
        self.jobs: list[CandidateJob] = []
        self._runtime = runtime
        self._spec = spec
        self._sequence = sequence
        self._number = number
        self._started = started
        self._config = spec.attempt(number)
        self._stopped = False

    @property
    def generated_tokens(self) -> int:
        """Tokens of all its candidates."""
        return sum(job.completion_tokens for job in self.jobs)

    def begin(self) -> CandidateJob:
        """Submit the first candidate; the prompt is read for it, or is in the cache. CapacityError if it cannot be."""
        return self._submit(self._sequence, 0)

    def stop(self) -> None:
        """Ask for the end, from any thread, and return at once."""
        self._stopped = True
        for job in list(self.jobs):
            job.cancelled = True

    def abandon(self) -> None:
        """No further step works for it."""
        for job in self.jobs:
            self._runtime.scheduler.abandon(job)

    def streamed(self) -> Streamed:
        """The first candidate, to be read while it is written."""
        return Streamed(self._runtime.scheduler, self._first_request(), self._reply_text())

    def ended(self, streamed: Streamed, rejected_because: str | None) -> Drawn:
        """The candidate that was read to its end."""
        request = streamed.request
        return Drawn(request, self._candidate(request, 0, streamed.text, rejected_because))

    def broken_off(self, streamed: Streamed, rejected_because: str) -> Drawn:
        """The candidate that is read no further, as it is now: how far its request has run ahead depends on others."""
        request = streamed.request
        self._runtime.scheduler.abandon(request)
        candidate = Candidate(
            text=streamed.text,
            token_ids=streamed.token_ids,
            finish_reason=GUARD,
            seed=self._spec.seed_of(self._number, 0),
            logprob=_sum_of(request.logprobs[: streamed.read]),
            rejected_because=rejected_because,
        )
        return Drawn(request, candidate)

    def considered(self) -> Steps[list[Drawn]]:
        """All candidates, in the order in which they were drawn, each with its scores or why it will not do."""
        drawn = yield from self._by_beams() if isinstance(self.jobs[0], BeamSearch) else self._by_samples()
        judge = partial(self._judged, drawn)
        if not self._spec.asks_functions:
            return judge()
        judged: list[Drawn] = yield Call(judge)
        return judged

    def _judged(self, drawn: Sequence[Drawn]) -> list[Drawn]:
        # Half a reply is better than none, but no better than a whole one.
        one_is_whole = any(_is_whole(each.candidate) for each in drawn)
        candidates = [
            replace(each.candidate, rejected_because=LATE)
            if one_is_whole and not _is_whole(each.candidate)
            else replace(each.candidate, rejected_because=self._spec.guard.verdict(each.candidate.text))
            for each in drawn
        ]
        fine = [index for index, candidate in enumerate(candidates) if candidate.rejected_because is None]
        for index, ranked in zip(fine, self._ranked([candidates[index] for index in fine]), strict=True):
            candidates[index] = ranked
        return [Drawn(each.job, candidate) for each, candidate in zip(drawn, candidates, strict=True)]

    def _submit(self, sequence: _core.Sequence, index: int) -> CandidateJob:
        prompt, config, start = self._spec.prompt, self._config, len(self._spec.prompt)
        if (limit := self._spec.drawing_time) is not None:
            config = replace(config, max_time=max(0.0, limit - self._elapsed()))
        job: CandidateJob
        if config.num_beams > 1:
            job = self._runtime.beam_search(sequence, prompt, config, penalty_start=start)
        else:
            seed = self._spec.seed_of(self._number, index)
            # Where nobody reads along, candidates stay together to their ends.
            ahead = RUN_AHEAD if self._spec.streams else config.max_new_tokens
            job = self._runtime.request(
                sequence, prompt, config, seed=seed, penalty_start=start, run_ahead=ahead
            )
        self.jobs.append(job)
        if self._stopped:  # looked at after the job can be seen by stop()
            raise CancelledJobError
        self._runtime.scheduler.submit(job)
        return job

    def _first_request(self) -> Request:
        job = self.jobs[0]
        assert isinstance(job, Request)
        return job

    def _by_samples(self) -> Steps[list[Drawn]]:
        scheduler, first = self._runtime.scheduler, self._first_request()
        yield from next_token(scheduler, first)  # from here on the prompt can be shared
        requests, live = [first], [first]
        count = self._spec.num_candidates if self._config.do_sample else 1
        while True:
            while len(live) < AT_ONCE and len(requests) < count:
                if len(requests) >= AT_ONCE and self._is_late():
                    count = len(requests)
                    break
                job = self._submit(scheduler.fork(first, len(self._spec.prompt) - 1), len(requests))
                assert isinstance(job, Request)
                requests.append(job)
                live.append(job)
            if not live:
                break
            yield Step(live[0], partial(_is_done, live[0]))
            live = [request for request in live if not scheduler.is_over(request)]
        for request in requests[AT_ONCE:]:
            cut_to(request.sequence, len(self._spec.prompt) - 1)
        return [
            Drawn(request, self._candidate(request, index, self._text_of(request.reply_ids)))
            for index, request in enumerate(requests)
        ]

    def _by_beams(self) -> Steps[list[Drawn]]:
        search = self.jobs[0]
        assert isinstance(search, BeamSearch)
        yield from finish(self._runtime.scheduler, search)
        drawn = []
        for found in search.finished:
            text = self._text_of(found.reply_ids)
            candidate = Candidate(
                text=text,
                token_ids=self._kept_ids(text, found.reply_ids, found.finish_reason),
                finish_reason=found.finish_reason,
                seed=self._spec.seed_of(self._number, 0),
                scores={"beam": found.score},
            )
            drawn.append(Drawn(search, candidate))
        return drawn

    def _candidate(self, request: Request, index: int, text: str, rejected_because: str | None = None) -> Candidate:
        finish_reason = request.finish_reason or GUARD
        return Candidate(
            text=text,
            token_ids=self._kept_ids(text, request.reply_ids, finish_reason),
            finish_reason=finish_reason,
            seed=self._spec.seed_of(self._number, index),
            logprob=_sum_of(request.logprobs),
            rejected_because=rejected_because,
        )

    def _ranked(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates with their scores; without one where the time was up."""
        context, ranking, limit = self._spec.context, self._spec.ranking, self._spec.config.max_time
        if limit is None or not ranking:
            return ranking.scored(context, candidates)
        ranked: list[Candidate] = []
        last_took = 0.0
        for start in range(0, len(candidates), _RANKED_AT_ONCE):
            some = candidates[start : start + _RANKED_AT_ONCE]
            begun = self._elapsed()
            # The first are always ranked; then as many as fit if the next take as long as those before.
            if start and begun + last_took > limit:
                ranked += [replace(candidate, rejected_because=LATE) for candidate in some]
                continue
            ranked += ranking.scored(context, some)
            last_took = self._elapsed() - begun
        return ranked

    def _reply_text(self) -> ReplyText:
        return ReplyText(self._runtime.tokenizer, self._spec.config.stopping_strings)

    def _text_of(self, ids: Sequence[int]) -> str:
        stream = self._reply_text()
        return "".join(map(stream.push, ids)) + stream.flush()

    def _kept_ids(self, text: str, ids: Sequence[int], finish_reason: str) -> tuple[int, ...]:
        """What the turn will hold: the reply's tokens, but nothing of the stop string that ended it."""
        return tuple(self._runtime.tokenizer.encode(text) if finish_reason == "stop" else ids)

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _is_late(self) -> bool:
        limit = self._spec.drawing_time
        return limit is not None and self._elapsed() > limit


def best_of(considered: Sequence[Drawn]) -> Drawn | None:
    """The one with the highest total that will do, the first of equals; None if none will do."""
    fine = [drawn for drawn in considered if drawn.candidate.rejected_because is None]
    return max(fine, key=lambda drawn: drawn.candidate.total, default=None)


def _is_done(request: Request) -> bool:
    return request.done


def _is_whole(candidate: Candidate) -> bool:
    return candidate.finish_reason != "max_time"


def _sum_of(logprobs: Sequence[TokenLogprob]) -> float | None:
    return sum(token.logprob for token in logprobs) if logprobs else None
