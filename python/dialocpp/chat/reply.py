"""What comes back: the text, its tokens, why it ended and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dialocpp.engine.results import Generation

# Reasons for a reply's end beside those of a Request: what followed had been said before; nothing would do and a set
# phrase was given; the caller left.
GUARD, FALLBACK, CANCELLED = "guard", "fallback", "cancelled"


@dataclass(frozen=True)
class Candidate:
    """One reply that was considered. `scores` are by ranker's name, `total` their weighted sum, higher is better.

    `logprob` is log P of the reply, its end-of-text included, if `top_logprobs` asked for it.
    `rejected_because`: `empty`, `repeats a turn`,
    `repeats a sentence`, `filtered`, or `too late` for `max_time`; None for a reply that could be given.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    seed: int
    logprob: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    rejected_because: str | None = None

    @property
    def total(self) -> float:
        """What candidates are ordered by; of equals, and without rankers, the one that was drawn first is taken."""
        return self.scores.get("total", 0.0)


@dataclass(frozen=True)
class Reply(Generation):
    """One turn of the model in a conversation."""

    dropped_turns: int = 0
    """Old turns that left the model's window to make room for this exchange."""
    retries: int = 0
    """Further attempts, because no candidate of the first would do."""
    candidates: tuple[Candidate, ...] = ()
    """All that were considered, as they were drawn; of a cancelled reply, those that were finished."""

