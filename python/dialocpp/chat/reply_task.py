"""How does one answer come about? Attempts make candidates, rankers order them, guards take the first that will do.

A single candidate is shown while it is written: text is held back only as long as it may still become an echo. With
several candidates, or a filter that needs the whole text, the reply is shown once it is chosen.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from dialocpp import _core
from dialocpp.decoding.seeds import derived_seed
from dialocpp.engine.beam_search import BeamSearch
from dialocpp.engine.job import CancelledJobError
from dialocpp.engine.request import Request
from dialocpp.engine.results import Timings, TokenLogprob
from dialocpp.engine.runtime import Runtime
from dialocpp.text.reply_text import ReplyText

from .guards import ECHO, key_of
from .reply import Candidate
from .reply_spec import Task

GUARD, FALLBACK, CANCELLED = "guard", "fallback", "cancelled"

# Why a candidate was passed over that no guard objects to: it was not finished, or not ranked, in time.
LATE = "too late"
# Of `max_time`, what candidates may take when they are ranked afterwards: ranking reads each of them once more.
_DRAWING = 0.7
_RANKED_AT_ONCE = 4  # candidates, where there is a time limit


class Answer:
    """One answer in the making. `text` and `token_ids` are what has been shown; `finish_reason` is set at its end."""

    def __init__(self, runtime: Runtime, sequence: _core.Sequence, task: Task) -> None:
        self.sequence = sequence  # in the end, that of the candidate that was taken
        self.text = ""
        self.token_ids: tuple[int, ...] = ()
        self.finish_reason: str | None = None
        self.retries = 0
        self.candidates: list[Candidate] = []
        self._runtime = runtime
        self._task = task
        self._started = time.perf_counter()
        self._requests: list[Request | BeamSearch] = []
        self._generated = 0  # tokens of attempts that are over
        self._stopped = self._resorted = False
        self._begin()
        self._first = self._taken = self._requests[0]

    @property
    def generated_tokens(self) -> int:
        """Tokens of all candidates."""
        return self._generated + sum(request.completion_tokens for request in self._requests)

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that did not have to be read."""
        return self._first.cached_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens of the reply, its end-of-text included."""
        return len(self.token_ids) + (self.finish_reason == "eos")

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Of the reply's tokens, where they were asked for and are the model's own."""
        if self._resorted or not isinstance(self._taken, Request):
            return ()
        whole = self.finish_reason not in (GUARD, CANCELLED, None)
        return tuple(self._taken.logprobs[: None if whole else len(self.token_ids)])

    @property
    def timings(self) -> Timings:
        """From the first attempt's start to the first and to the last token of the reply."""
        if not self._taken.completion_tokens:
            return Timings(0.0, 0.0)
        start = self._first.submitted
        return Timings(self._taken.first_token - start, self._taken.last_token - start)

    def pieces(self) -> Iterator[str]:
        """The text, piece by piece; it ends without a finish_reason when it is stopped."""
        with suppress(CancelledJobError):
            yield from self._attempts()

    def stop(self) -> None:
        """Ask for the end, from any thread, and return at once."""
        self._stopped = True
        for request in list(self._requests):
            request.cancelled = True

    def _attempts(self) -> Iterator[str]:
        while True:
            yield from self._one() if self._task.streams else self._many()
            if self.finish_reason is not None:
                return
            limit = self._drawing_time
            if (limit is not None and self._elapsed() > limit) or self.retries == self._task.max_retries:
                yield self._last_resort()
                return
            self._cancel()
            self.retries += 1
            self._begin()

    def close(self) -> None:
        """No step works for this answer any more."""
        for request in self._requests:
            self._runtime.scheduler.cancel(request)

    def forget(self) -> None:
        """Free the pages of the candidates that were not taken."""
        self._cancel()

    def _begin(self) -> None:
        """Submit the first candidate of an attempt; the prompt is read for it, or lies in the cache."""
        self.seed = self._task.seed_of(self.retries, 0)
        self._submit(self.sequence, 0)

    def _submit(self, sequence: _core.Sequence, index: int) -> None:
        prompt, config, start = self._task.prompt, self._task.attempt(self.retries), len(self._task.prompt)
        if self._drawing_time is not None:
            config = dataclasses.replace(config, max_time=max(0.0, self._drawing_time - self._elapsed()))
        request: Request | BeamSearch
        if config.num_beams > 1:
            request = self._runtime.beam_search(sequence, prompt, config, penalty_start=start)
        else:
            seed = self._task.seed_of(self.retries, index)
            request = self._runtime.request(sequence, prompt, config, seed=seed, penalty_start=start)
        self._requests.append(request)
        if self._stopped:
            raise CancelledJobError
        self._runtime.scheduler.submit(request)

    def _cancel(self) -> None:
        self.close()
        self._generated = self.generated_tokens
        self._requests.clear()

    def _one(self) -> Iterator[str]:
        """A single candidate, shown as far as no guard can object any more."""
        request, guard = self._requests[0], self._task.guard
        assert isinstance(request, Request)
        stream = ReplyText(self._runtime.tokenizer, self._task.config.stopping_strings)
        text, read, complete, echo, broken = "", 0, 0, False, False
        for token in self._tokens(request):
            read += 1
            piece = stream.push(token)
            if not piece:
                continue
            text, complete = text + piece, read
            if echo := guard.repeats(text):
                broken = True
                break
            if not guard.holds(text):
                self._taken = request
                yield self._show(text, request.generated[:complete])
        if not echo:
            text += stream.flush()
            echo = bool(self.text) and guard.repeats(text, ended=True)
        if echo:
            self._runtime.scheduler.cancel(request)
            candidate = self._candidate(request, 0, text, ECHO)
            if broken:  # only what was read: how far the request has run ahead depends on others
                ids, logprob = tuple(request.generated[:read]), _sum_of(request.logprobs[:read])
                candidate = dataclasses.replace(candidate, token_ids=ids, finish_reason=GUARD, logprob=logprob)
            self.candidates.append(candidate)
            # What was shown stays, and the reply ends before it says again what was said.
            self.finish_reason = GUARD if self.text else None
            return
        candidate = self._candidate(request, 0, text, None if self.text else guard.verdict(text))
        self.candidates.append(candidate)
        if candidate.rejected_because is None:
            yield from self._take(request, candidate)

    def _many(self) -> Iterator[str]:
        """Several candidates in one batch, on one reading of the prompt; the best that will do is shown whole."""
        drawn = self._beams() if isinstance(self._requests[0], BeamSearch) else self._samples()
        whole = [candidate.finish_reason != "max_time" for _, candidate in drawn]
        verdicts = [
            # Half a reply is better than none, but no better than a whole one.
            LATE if any(whole) and not complete else self._task.guard.verdict(candidate.text)
            for (_, candidate), complete in zip(drawn, whole, strict=True)
        ]
        judged = [
            (request, dataclasses.replace(candidate, rejected_because=verdict))
            for (request, candidate), verdict in zip(drawn, verdicts, strict=True)
        ]
        ranked = iter(self._ranked([candidate for _, candidate in judged if candidate.rejected_because is None]))
        judged = [
            (request, next(ranked) if candidate.rejected_because is None else candidate)
            for request, candidate in judged
        ]
        self.candidates += [candidate for _, candidate in judged]
        fine = [(request, candidate) for request, candidate in judged if candidate.rejected_because is None]
        if fine:
            yield from self._take(*min(fine, key=lambda pair: -pair[1].total))

    def _ranked(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates with their scores; without one where the time was up."""
        context, ranking, limit = self._task.context, self._task.ranking, self._task.config.max_time
        if limit is None or not ranking:
            return ranking.scored(context, candidates)
        ranked: list[Candidate] = []
        taken = 0.0
        for start in range(0, len(candidates), _RANKED_AT_ONCE):
            some = candidates[start : start + _RANKED_AT_ONCE]
            begun = self._elapsed()
            # The first are always ranked; then as many as fit if the next take as long as those before.
            if start and begun + taken > limit:
                ranked += [dataclasses.replace(candidate, rejected_because=LATE) for candidate in some]
                continue
            ranked += ranking.scored(context, some)
            taken = self._elapsed() - begun
        return ranked

    @property
    def _drawing_time(self) -> float | None:
        """Seconds from the beginning in which tokens may be drawn."""
        limit = self._task.config.max_time
        return None if limit is None else limit * (_DRAWING if self._task.ranking else 1.0)

    def _elapsed(self) -> float:
        """Seconds since the answer was begun."""
        return time.perf_counter() - self._started

    def _samples(self) -> list[tuple[Request | BeamSearch, Candidate]]:
        scheduler, first = self._runtime.scheduler, self._requests[0]
        assert isinstance(first, Request)
        scheduler.next_token(first)  # from here on the prompt can be shared
        count = self._task.num_candidates if self._task.attempt(self.retries).do_sample else 1
        for index in range(1, count):
            self._submit(scheduler.fork(first, len(self._task.prompt) - 1), index)
        requests = [request for request in self._requests if isinstance(request, Request)]
        live = list(requests)
        while live:
            live = [request for request in live if scheduler.next_token(request) is not None]
        return [
            (request, self._candidate(request, index, self._text_of(request.reply_ids)))
            for index, request in enumerate(requests)
        ]

    def _beams(self) -> list[tuple[Request | BeamSearch, Candidate]]:
        search = self._requests[0]
        assert isinstance(search, BeamSearch)
        self._runtime.scheduler.finish(search)
        drawn: list[tuple[Request | BeamSearch, Candidate]] = []
        for found in search.finished:
            text = self._text_of(found.reply_ids)
            ids = self._said(text, found.reply_ids, found.finish_reason)
            candidate = Candidate(text, ids, found.finish_reason, self.seed, scores={"beam": found.score})
            drawn.append((search, candidate))
        return drawn

    def _tokens(self, request: Request) -> Iterator[int]:
        """The request's tokens without the end-of-text."""
        while True:
            token = self._runtime.scheduler.next_token(request)
            if token is None or token in request.rules.eos_token_ids:
                return
            yield token

    def _text_of(self, ids: Sequence[int]) -> str:
        stream = ReplyText(self._runtime.tokenizer, self._task.config.stopping_strings)
        return "".join(map(stream.push, ids)) + stream.flush()

    def _said(self, text: str, ids: Sequence[int], finish_reason: str) -> tuple[int, ...]:
        """What a reply's turn holds: its tokens, but nothing of the stop string that ended it."""
        return tuple(self._runtime.tokenizer.encode(text) if finish_reason == "stop" else ids)

    def _candidate(self, request: Request, index: int, text: str, rejected: str | None = None) -> Candidate:
        finish_reason = request.finish_reason or GUARD
        return Candidate(
            text=text,
            token_ids=self._said(text, request.reply_ids, finish_reason),
            finish_reason=finish_reason,
            seed=self._task.seed_of(self.retries, index),
            logprob=_sum_of(request.logprobs),
            rejected_because=rejected,
        )

    def _take(self, request: Request | BeamSearch, candidate: Candidate) -> Iterator[str]:
        """This candidate is the reply: show what of it has not been shown."""
        self._taken, self.sequence, self.seed = request, request.sequence, candidate.seed
        if piece := self._show(candidate.text, candidate.token_ids):
            yield piece
        self.finish_reason = candidate.finish_reason

    def _show(self, text: str, token_ids: Sequence[int]) -> str:
        piece = text[len(self.text) :]
        self.text, self.token_ids = text, tuple(token_ids)
        return piece

    def _last_resort(self) -> str:
        """No candidate will do: the best complete one that only repeats a sentence, or else a set phrase."""
        self._resorted = True
        for candidate in sorted(self.candidates, key=lambda candidate: -candidate.total):
            if candidate.rejected_because == ECHO and candidate.finish_reason != GUARD:
                self.finish_reason, self.seed = candidate.finish_reason, candidate.seed
                return self._show(candidate.text, candidate.token_ids)
        self.finish_reason = FALLBACK
        text = self._phrase()
        return self._show(text, self._runtime.tokenizer.encode(text))

    def _phrase(self) -> str:
        """A set phrase, by the seed; one that was not said before if there is any, and not the one just said."""
        phrases, guard = self._task.fallback, self._task.guard
        start = derived_seed(self._task.seed, self._task.max_retries + 1, 0) % len(phrases)
        order = [*phrases[start:], *phrases[:start]]
        said = self._task.context
        last = next((turn.content for turn in reversed(said) if turn.role == "assistant"), "")
        new = [phrase for phrase in order if guard.verdict(phrase) is None]
        other = [phrase for phrase in order if key_of(phrase) != key_of(last)]
        return (new or other or order)[0]


def _sum_of(logprobs: Sequence[TokenLogprob]) -> float | None:
    return sum(token.logprob for token in logprobs) if logprobs else None

