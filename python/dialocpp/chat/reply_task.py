"""How does one reply come about? Attempts bring candidates, until a guard lets one pass or nothing is left to try.

A single candidate is shown while it is written: text is held back only as long as it may still become an echo. With
several candidates, or a filter that needs the whole text, the reply is shown once it is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any

from dialocpp import _core
from dialocpp.decoding.seeds import derived_seed
from dialocpp.engine.job import CancelledJobError
from dialocpp.engine.request import Request
from dialocpp.engine.results import Timings, TokenLogprob, Usage
from dialocpp.engine.runtime import Runtime
from dialocpp.engine.scheduler import Scheduler
from dialocpp.engine.steps import Need

from .candidates import Attempt, CandidateJob, Drawn, best_of
from .guards import ECHO, key_of
from .reply import CANCELLED, FALLBACK, GUARD, Candidate, Reply
from .reply_spec import ReplySpec

# Pieces of a text, and between them what somebody must do for the next one.
Pieces = Generator[str | Need, Any, None]


class ReplyTask:
    """A reply in the making. `text` and `token_ids` are what has been shown; `finish_reason` is set at its end.

    `started`: when it was asked for, by the clock of time.perf_counter: `max_time` counts from there (None: from now).
    """

    def __init__(
        self, runtime: Runtime, sequence: _core.Sequence, spec: ReplySpec, started: float | None = None
    ) -> None:
        self.sequence = sequence  # in the end, that of the candidate that was chosen
        self.spec = spec
        self.text = ""
        self.token_ids: tuple[int, ...] = ()
        self.finish_reason: str | None = None
        self.seed = spec.seed
        self.retries = 0
        self.candidates: list[Candidate] = []
        self.stopped = False
        self._runtime = runtime
        self._started = time.perf_counter() if started is None else started
        self._generated = 0  # tokens of attempts that are over
        self._is_last_resort = False
        self._attempt = self._next_attempt()
        self._first_job = self._chosen_job = self._attempt.begin()

    @property
    def scheduler(self) -> Scheduler:
        """Who runs its steps."""
        return self._runtime.scheduler

    @property
    def generated_tokens(self) -> int:
        """Tokens of all candidates."""
        return self._generated + self._attempt.generated_tokens

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that did not have to be read."""
        return self._first_job.cached_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens of the reply, its end-of-text included."""
        return len(self.token_ids) + (self.finish_reason == "eos")

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Of the reply's tokens, where they were asked for and are the model's own."""
        if self._is_last_resort or not isinstance(self._chosen_job, Request):
            return ()
        is_whole = self.finish_reason not in (GUARD, CANCELLED, None)
        return tuple(self._chosen_job.logprobs[: None if is_whole else len(self.token_ids)])

    @property
    def timings(self) -> Timings:
        """From the first attempt's start to the first and to the last token of the reply."""
        if not self._chosen_job.completion_tokens:
            return Timings(0.0, 0.0)
        start = self._first_job.submitted
        return Timings(self._chosen_job.first_token - start, self._chosen_job.last_token - start)

    def pieces(self) -> Pieces:
        """The text, piece by piece; it ends without a finish_reason when it is stopped.

        Between the pieces come needs (`engine/steps.py`): who reads them does what they ask for, and sends the result.
        """
        with suppress(CancelledJobError):
            yield from self._attempts()

    def stop(self) -> None:
        """Ask for the end, from any thread, and return at once."""
        self.stopped = True
        self._attempt.stop()

    def close(self) -> None:
        """No further step works for this reply."""
        self._attempt.abandon()

    @property
    def surely_read(self) -> list[int]:
        """Ids that its sequence holds, told without waiting for a step that may still run."""
        return [*self.spec.prompt, *(() if self._is_last_resort else self.token_ids[:-1])]

    def free(self) -> None:
        """Free the pages of the candidates that were not chosen."""
        self.close()
        self._generated = self.generated_tokens
        self._attempt.jobs.clear()

    def reply(self, finish_reason: str) -> Reply:
        """What came of it, as it is now."""
        draft = self.spec.draft
        usage = Usage(
            prompt_tokens=len(draft.prompt),
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            recomputed_tokens=max(0, draft.read_before - self.cached_tokens) + draft.before.recomputed,
            prepared_tokens=draft.before.prepared,
            generated_tokens=self.generated_tokens,
        )
        return Reply(
            text=self.text,
            token_ids=self.token_ids,
            finish_reason=finish_reason,
            seed=self.seed,
            usage=usage,
            timings=self.timings,
            logprobs=self.logprobs,
            dropped_turns=draft.dropped_turns,
            retries=self.retries,
            candidates=tuple(self.candidates),
        )

    def _next_attempt(self) -> Attempt:
        self.seed = self.spec.seed_of(self.retries, 0)
        return Attempt(self._runtime, self.spec, self.sequence, self.retries, self._started)

    def _attempts(self) -> Pieces:
        while True:
            yield from self._streamed() if self.spec.streams else self._chosen()
            if self.finish_reason is not None:
                return
            if self._is_late() or self.retries == self.spec.max_retries:
                yield self._last_resort()
                return
            self.free()
            self.retries += 1
            self._attempt = self._next_attempt()
            if self.stopped:  # looked at after stop() can see the attempt
                raise CancelledJobError
            self._attempt.begin()

    def _is_late(self) -> bool:
        limit = self.spec.drawing_time
        return limit is not None and time.perf_counter() - self._started > limit

    def _streamed(self) -> Pieces:
        """A single candidate, shown as far as no guard can object any more."""
        guard, streamed = self.spec.guard, self._attempt.streamed()
        while (text := (yield from streamed.grow())) is not None:
            if self.stopped:
                raise CancelledJobError
            if guard.repeats(text):
                self._refuse(self._attempt.broken_off(streamed, ECHO))
                return
            if not guard.holds(text):
                self._chosen_job = streamed.request
                yield self._show(text, streamed.token_ids)
        verdict = self._verdict(streamed.whole())
        drawn = self._attempt.ended(streamed, verdict)
        if verdict is not None:
            self._refuse(drawn)
            return
        self.candidates.append(drawn.candidate)
        yield from self._choose(drawn)

    def _verdict(self, text: str) -> str | None:
        """Why a streamed reply may not be given. What was shown of it has passed, and only its end can be an echo."""
        if not self.text:
            return self.spec.guard.verdict(text)
        return ECHO if self.spec.guard.repeats(text, ended=True) else None

    def _refuse(self, drawn: Drawn) -> None:
        """What was shown of it stays, and the reply ends before it says again what was said."""
        self.candidates.append(drawn.candidate)
        self.finish_reason = GUARD if self.text else None

    def _chosen(self) -> Pieces:
        """The best of several candidates, shown whole."""
        considered = yield from self._attempt.considered()
        self.candidates += [drawn.candidate for drawn in considered]
        if (best := best_of(considered)) is not None:
            yield from self._choose(best)

    def _choose(self, drawn: Drawn) -> Pieces:
        """This candidate is the reply: show what of it has not been shown."""
        job: CandidateJob = drawn.job
        self._chosen_job, self.sequence, self.seed = job, job.sequence, drawn.candidate.seed
        if piece := self._show(drawn.candidate.text, drawn.candidate.token_ids):
            yield piece
        self.finish_reason = drawn.candidate.finish_reason

    def _show(self, text: str, token_ids: Sequence[int]) -> str:
        piece = text[len(self.text) :]
        self.text, self.token_ids = text, tuple(token_ids)
        return piece

    def _last_resort(self) -> str:
        """No candidate will do: the best complete one that only repeats a sentence, or else a set phrase."""
        self._is_last_resort = True
        echoes = [each for each in self.candidates if each.rejected_because == ECHO and each.finish_reason != GUARD]
        echoes = [each for each in echoes if self.spec.may_say(each.text)]
        if echoes:
            best = max(echoes, key=lambda candidate: candidate.total)
            self.finish_reason, self.seed = best.finish_reason, best.seed
            return self._show(best.text, best.token_ids)
        self.finish_reason = FALLBACK
        text = self._phrase()
        return self._show(text, self._runtime.tokenizer.encode(text))

    def _phrase(self) -> str:
        """A set phrase, by the seed; one that was not said before if there is any, and not the one just said.

        It obeys the rules that hold for every reply; nothing is said if no phrase does.
        """
        phrases, guard = self.spec.fallback, self.spec.guard
        start = derived_seed(self.spec.seed, self.spec.max_retries + 1, 0) % len(phrases)
        order = [phrase for phrase in [*phrases[start:], *phrases[:start]] if self.spec.may_say(phrase)]
        last = next((turn.content for turn in reversed(self.spec.context) if turn.role == "assistant"), "")
        new = [phrase for phrase in order if guard.verdict(phrase) is None]
        other = [phrase for phrase in order if key_of(phrase) != key_of(last)]
        return next(iter(new or other or order), "")
