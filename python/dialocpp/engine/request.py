"""What can one ask of the scheduler: read a prompt, write a reply, score a text?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dialocpp import _core
from dialocpp.decoding.generation_config import LogitsProcessor

from .job import cut_to, hold_common_prefix
from .results import TokenLogprob

# How far a reply may run ahead of a caller who reads it slowly.
RUN_AHEAD = 32


@dataclass(eq=False)
class Request:
    """One reply in the making. Its state is `generated` alone; all else follows from it and from the sequence."""

    sequence: _core.Sequence
    prompt: list[int]
    sampling: _core.Sampling
    max_new_tokens: int
    eos_token_ids: tuple[int, ...]
    n_positions: int
    stops: Callable[[list[int]], bool] | None = None  # does this reply end here, other than by end-of-text?
    processor: LogitsProcessor | None = None
    top_logprobs: int = -1
    max_time: float | None = None  # seconds, from `begin`
    bans: Callable[[list[int]], Sequence[int]] | None = None  # tokens that may not follow these of the reply
    run_ahead: int = RUN_AHEAD  # tokens; for a caller who waits for the whole reply: max_new_tokens
    cached_tokens: int = 0
    generated: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    taken: int = 0  # of `generated`, by the caller
    error: Exception | None = None
    cancelled: bool = False
    submitted: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    _end: tuple[int, str] = (0, "")  # length of the reply that ends for another reason than the usual ones

    def begin(self) -> None:
        """What the sequence already holds of the prompt is not read again."""
        common = hold_common_prefix(self.sequence, self.prompt)
        self.cached_tokens = min(common, len(self.prompt) - 1)
        self.submitted = time.perf_counter()

    @property
    def finish_reason(self) -> str | None:
        """`eos`, `stop`, `max_time`, `length`, or None while there is more to come."""
        if self.generated and self.generated[-1] in self.eos_token_ids:
            return "eos"
        if self.generated and self._end[0] == len(self.generated):
            return self._end[1]
        full = len(self.prompt) + len(self.generated) > self.n_positions
        return "length" if full or len(self.generated) >= self.max_new_tokens else None

    @property
    def reply_ids(self) -> list[int]:
        """The generated ids without the end-of-text."""
        return self.generated[:-1] if self.finish_reason == "eos" else self.generated

    @property
    def completion_tokens(self) -> int:
        """Tokens that were chosen."""
        return len(self.generated)

    @property
    def done(self) -> bool:
        return self.finish_reason is not None

    @property
    def waits(self) -> bool:
        return len(self.generated) - self.taken >= self.run_ahead

    @property
    def writes(self) -> bool:
        return bool(self.generated)

    def take(self) -> int | None:
        """The next token that the caller has not seen."""
        if self.taken == len(self.generated):
            return None
        self.taken += 1
        return self.generated[self.taken - 1]

    def plan(self, budget: int) -> list[_core.Work]:
        known = self.prompt + self.generated
        start = min(len(self.sequence), len(known) - 1)
        if start < len(self.sequence):
            self.sequence.truncate(start)
        tokens = known[start : start + budget]
        if start + len(tokens) < len(known):
            return [_core.Work(self.sequence, tokens)]
        if self.processor is None:
            return [
                _core.Work(
                    self.sequence, tokens, self.sampling, bans=self._banned(), top_logprobs=self.top_logprobs
                )
            ]
        return [_core.Work(self.sequence, tokens, self.sampling, bans=self._banned(), logits=True)]

    def _banned(self) -> Sequence[int]:
        return self.bans(self.generated) if self.bans else ()

    def commit(self, outcomes: Sequence[_core.Outcome]) -> None:
        outcome = outcomes[0]
        token = outcome.token
        if self.processor is not None and len(logits := outcome.logits):
            token = self._draw(self.processor, logits)
        if token < 0:
            return
        now = time.perf_counter()
        if not self.generated:
            self.first_token = now
        self.last_token = now
        if self.top_logprobs >= 0:
            top = tuple((c.id, c.score) for c in outcome.best)
            del self.logprobs[len(self.generated) :]
            self.logprobs.append(TokenLogprob(token, outcome.logprob, top))
        generated = [*self.generated, token]
        if self.stops is not None and self.stops(generated):
            self._end = len(generated), "stop"
        elif self.max_time is not None and now - self.submitted > self.max_time:
            self._end = len(generated), "max_time"
        # Last, and at once: an interrupt before this line leaves a step that can be repeated.
        self.generated = generated

    def give_back(self) -> None:
        cut_to(self.sequence, self.cached_tokens)

    def _draw(self, processor: LogitsProcessor, scores: _core.F32) -> int:
        tokens = self.prompt + self.generated
        changed = processor(list(tokens), scores)
        if changed is None:
            changed = scores
        changed = np.asarray(changed, np.float32)
        if changed.shape != scores.shape:
            raise ValueError(
                f"logits_processor must give logits of shape {scores.shape}, but gave shape {changed.shape}."
            )
        if not (changed < np.inf).all():
            raise ValueError(
                "logits_processor must give numbers or -inf, but gave NaN or inf; to force a token, ban the others."
            )
        return _core.draw(self.sampling, len(tokens), changed)

