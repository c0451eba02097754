"""How does one reply come about, step by step?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dialocpp import _core
from dialocpp.decoding.generation_config import LogitsProcessor
from dialocpp.errors import ask

from .job import WritingJob
from .results import TokenLogprob

# How far a reply may run ahead of a caller who reads it slowly.
RUN_AHEAD = 32


@dataclass(eq=False)
class Request(WritingJob):
    """One reply in the making.

    A step counts once `generated` holds its token. What is noted beside it (log-probabilities, times, the end) is
    written before, and is written again when an interrupted step is run again.
    """

    run_ahead: int = RUN_AHEAD  # tokens; for a caller who waits for the whole reply: max_new_tokens
    generated: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    taken: int = 0  # of `generated`, by the caller
    _end: tuple[int, str] = (0, "")  # length of the reply that ends for another reason than the usual ones

    @property
    def finish_reason(self) -> str | None:
        """`eos`, `stop`, `max_time`, `length`, or None while there is more to come."""
        if self.generated and self.generated[-1] in self.rules.eos_token_ids:
            return "eos"
        if self.generated and self._end[0] == len(self.generated):
            return self._end[1]
        return "length" if len(self.generated) >= self.rules.longest(len(self.prompt)) else None

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

    @property
    def has_token(self) -> bool:
        return self.taken < len(self.generated)

    def take(self) -> int | None:
        """The next token that the caller has not seen."""
        if not self.has_token:
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
        rules, bans = self.rules, self.rules.banned_after(self.generated)
        if rules.processor is None:
            return [_core.Work(self.sequence, tokens, rules.sampling, bans=bans, top_logprobs=rules.top_logprobs)]
        return [_core.Work(self.sequence, tokens, rules.sampling, bans=bans, logits=True)]

    def commit(self, outcomes: Sequence[_core.Outcome]) -> None:
        outcome, rules = outcomes[0], self.rules
        token = outcome.token
        if rules.processor is not None and len(logits := outcome.logits):
            token = self._draw(rules.processor, logits)
        if token < 0:
            return
        now = time.perf_counter()
        if not self.generated:
            self.first_token = now
        self.last_token = now
        if rules.top_logprobs >= 0:
            top = tuple((c.id, c.score) for c in outcome.best)
            del self.logprobs[len(self.generated) :]
            self.logprobs.append(TokenLogprob(token, outcome.logprob, top))
        generated = [*self.generated, token]
        if rules.stops is not None and rules.stops(generated):
            self._end = len(generated), "stop"
        elif rules.max_time is not None and now - self.submitted > rules.max_time:
            self._end = len(generated), "max_time"
        # Last, and at once: an interrupt before this line leaves a step that can be repeated.
        self.generated = generated

    def _draw(self, processor: LogitsProcessor, scores: _core.F32) -> int:
        tokens, shape = self.prompt + self.generated, scores.shape  # the function may change its array's shape too
        changed = ask("logits_processor", processor, list(tokens), scores)
        if changed is None:
            changed = scores
        changed = np.asarray(changed, np.float32)
        if changed.shape != shape:
            raise ValueError(
                f"expected logits of shape {shape} from logits_processor, found shape {changed.shape}; "
                "give back as many as it was given"
            )
        if not (changed < np.inf).all():
            raise ValueError(
                "expected numbers or -inf from logits_processor, found NaN or inf; to force a token, ban the others"
            )
        return _core.draw(self.rules.sampling, len(tokens), changed)
