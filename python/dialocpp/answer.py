"""How does one answer come about? Attempts make candidates, rankers order them, guards take the first that will do.

A single candidate is shown while it is written: text is held back only as long as it may still become an echo. With
several candidates, or a filter that needs the whole text, the reply is shown once it is chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import _core
from .chat_format import Turn
from .decoding import CHAT, GenerationConfig, derived_seed
from .guards import ECHO, Guard, key_of
from .model import Model
from .reply import Candidate, Timings
from .rerank import Ranking, best_first
from .scheduler import Request

GUARD, FALLBACK, CANCELLED = "guard", "fallback", "cancelled"


@dataclass(frozen=True)
class Task:
    """All that an answer depends on, beside the model."""

    prompt: list[int]
    context: Sequence[Turn]
    config: GenerationConfig
    seed: int
    guard: Guard
    num_candidates: int
    max_retries: int
    ranking: Ranking
    fallback: Sequence[str]

    @property
    def streams(self) -> bool:
        """Can text be shown before the reply is complete?"""
        return self.num_candidates == 1 and not self.ranking and self.guard.accepts is None

    def attempt(self, retry: int) -> GenerationConfig:
        """The rules of an attempt. Greedy decoding would only say the same again, so after it the reply is drawn."""
        if retry == 0 or self.config.do_sample:
            return self.config
        return dataclasses.replace(
            self.config,
            do_sample=True,
            **{name: getattr(CHAT, name) for name in ("temperature", "top_k", "top_p", "no_repeat_ngram_size")},
            **({"num_beams": 1} if hasattr(self.config, "num_beams") else {}),
        )

    def seed_of(self, retry: int, index: int) -> int:
        """The seed of a candidate; the first one's is the answer's own."""
        return self.seed if retry == index == 0 else derived_seed(self.seed, retry, index)


class Answer:
    """One answer in the making. `text` and `token_ids` are what has been shown; `finish_reason` is set at its end."""

    def __init__(self, model: Model, sequence: _core.Sequence, task: Task) -> None:
        self.sequence = sequence  # in the end, that of the candidate that was taken
        self.text = ""
        self.token_ids: tuple[int, ...] = ()
        self.finish_reason: str | None = None
        self.retries = 0
        self.candidates: list[Candidate] = []
        self._model = model
        self._task = task
        self._requests: list[Request] = []
        self._generated = 0  # tokens of attempts that are over
        self._begin()
        self._first = self._taken = self._requests[0]

    @property
    def generated_tokens(self) -> int:
        """Tokens of all candidates."""
        return self._generated + sum(len(request.generated) for request in self._requests)

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that did not have to be read."""
        return self._first.cached_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens of the reply, its end-of-text included."""
        return len(self.token_ids) if self.finish_reason == FALLBACK else len(self._taken.generated)

    @property
    def timings(self) -> Timings:
        """From the first attempt's start to the first and to the last token of the reply."""
        if not self._taken.generated:
            return Timings(0.0, 0.0)
        start = self._first.submitted
        return Timings(self._taken.first_token - start, self._taken.last_token - start)

    def pieces(self) -> Iterator[str]:
        """The text, piece by piece."""
        while True:
            yield from self._one() if self._task.streams else self._many()
            if self.finish_reason is not None:
                return
            if self.retries == self._task.max_retries:
                yield self._last_resort()
                return
            self._cancel()
            self.retries += 1
            self._begin()

    def close(self) -> None:
        """No step works for this answer any more."""
        for request in self._requests:
            self._model.scheduler.cancel(request)

    def forget(self) -> None:
        """Free the pages of the candidates that were not taken."""
        self._cancel()

    def _begin(self) -> None:
        """Submit the first candidate of an attempt; the prompt is read for it, or lies in the cache."""
        self.seed = self._task.seed_of(self.retries, 0)
        self._submit(self.sequence, 0)

    def _submit(self, sequence: _core.Sequence, index: int) -> None:
        prompt, retry = self._task.prompt, self.retries
        request = self._model.request(
            sequence,
            prompt,
            self._task.attempt(retry),
            seed=self._task.seed_of(retry, index),
            penalty_start=len(prompt),
        )
        self._requests.append(request)
        self._model.scheduler.submit(request)

    def _cancel(self) -> None:
        self.close()
        self._generated = self.generated_tokens
        self._requests.clear()

    def _one(self) -> Iterator[str]:
        """A single candidate, shown as far as no guard can object any more."""
        request, guard = self._requests[0], self._task.guard
        stream = self._model.tokenizer.stream(skip_special_tokens=True)
        text, read, complete, echo = "", 0, 0, False
        for token in self._tokens(request):
            read += 1
            piece = stream.push(token)
            if not piece:
                continue
            text, complete = text + piece, read
            if echo := guard.repeats(text):
                break
            if not guard.holds(text):
                self._taken = request
                yield self._show(text, request.generated[:complete])
        if not echo:
            text += stream.flush()
            echo = bool(self.text) and guard.repeats(text, ended=True)
        if echo:
            self._model.scheduler.cancel(request)
            self.candidates.append(self._candidate(request, 0, text, ECHO))
            # What was shown stays, and the reply ends before it says again what was said.
            self.finish_reason = GUARD if self.text else None
            return
        candidate = self._candidate(request, 0, text, None if self.text else guard.verdict(text))
        self.candidates.append(candidate)
        if candidate.rejected_because is None:
            yield from self._take(request, candidate)

    def _many(self) -> Iterator[str]:
        """Several candidates in one batch, on one reading of the prompt; the best that will do is shown whole."""
        task, scheduler = self._task, self._model.scheduler
        first = self._requests[0]
        scheduler.next_token(first)  # from here on the prompt can be shared
        count = task.num_candidates if task.attempt(self.retries).do_sample else 1
        for index in range(1, count):
            self._submit(first.sequence.fork(len(task.prompt) - 1), index)
        live = list(self._requests)
        while live:
            live = [request for request in live if scheduler.next_token(request) is not None]
        drawn = [
            self._candidate(request, index, self._text_of(request)) for index, request in enumerate(self._requests)
        ]
        judged = [
            dataclasses.replace(candidate, rejected_because=task.guard.verdict(candidate.text))
            for candidate in task.ranking.scored(task.context, drawn)
        ]
        self.candidates += judged
        chosen = next((candidate for candidate in best_first(judged) if candidate.rejected_because is None), None)
        if chosen is not None:
            yield from self._take(self._requests[[c.seed for c in judged].index(chosen.seed)], chosen)

    def _tokens(self, request: Request) -> Iterator[int]:
        """The request's tokens without the end-of-text."""
        while True:
            token = self._model.scheduler.next_token(request)
            if token is None or token in request.eos_token_ids:
                return
            yield token

    def _text_of(self, request: Request) -> str:
        stream = self._model.tokenizer.stream(skip_special_tokens=True)
        return "".join(map(stream.push, request.reply_ids)) + stream.flush()

    def _candidate(self, request: Request, index: int, text: str, rejected: str | None = None) -> Candidate:
        return Candidate(
            text=text,
            token_ids=tuple(request.reply_ids),
            finish_reason=request.finish_reason or GUARD,
            seed=self._task.seed_of(self.retries, index),
            rejected_because=rejected,
        )

    def _take(self, request: Request, candidate: Candidate) -> Iterator[str]:
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
        for candidate in best_first(self.candidates):
            if candidate.rejected_because == ECHO and candidate.finish_reason != GUARD:
                self.finish_reason, self.seed = candidate.finish_reason, candidate.seed
                return self._show(candidate.text, candidate.token_ids)
        self.finish_reason = FALLBACK
        text = self._phrase()
        return self._show(text, self._model.tokenizer.encode(text))

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
