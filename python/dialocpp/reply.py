"""What comes back: the text, its tokens, why it ended and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

from .beams import BeamSearch
from .jobs import Request, TokenLogprob


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply. `cached_tokens` of the prompt were in the cache already and cost nothing."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Timings:
    """Seconds from the request to its first token (TTFT) and to its last."""

    time_to_first_token: float
    total: float

    def tokens_per_second(self, tokens: int) -> float:
        """Speed after the first token; 0 when there was only one."""
        rest = self.total - self.time_to_first_token
        return (tokens - 1) / rest if tokens > 1 and rest > 0 else 0.0


@dataclass(frozen=True)
class Generation:
    """A generated text. `token_ids` are without the end-of-text; `str()` of it is the text.

    `finish_reason`: `eos` (the model ended it), `stop` (a stop string; the text ends before it), `length`
    (max_new_tokens or the last position was reached), `max_time` or `cancelled` (the caller left). `seed` gives the
    same text again.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    seed: int
    usage: Usage
    timings: Timings
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of each generated token, the end-of-text included, when `top_logprobs` asked for them."""
    score: float | None = None
    """Of a beam search: the log-probability after the rules, divided by length ** length_penalty."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Reply(Generation):
    """One turn of the model in a conversation."""

    dropped_turns: int = 0
    """Old turns that left the model's window to make room for this exchange."""


def usage_of(job: Request | BeamSearch) -> Usage:
    """What a reply has cost so far."""
    return Usage(len(job.prompt), job.cached_tokens, job.completion_tokens)


def timings_of(job: Request | BeamSearch) -> Timings:
    """How long a reply has taken so far."""
    if not job.completion_tokens:
        return Timings(0.0, 0.0)
    return Timings(job.first_token - job.submitted, job.last_token - job.submitted)
