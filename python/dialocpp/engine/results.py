"""What comes back from the engine: a text, its tokens, why it ended and what it cost?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply. `cached_tokens` of the prompt were in the cache already and cost nothing.

    `recomputed_tokens` were in it once and had to be read again, because turns left the window or the conversation
    was loaded: of the fresh tokens of this prompt, and of the `prepared_tokens` that ChatSession.prepare() read before.
    `generated_tokens` counts all candidates, beams and retries, `completion_tokens` the reply alone.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    recomputed_tokens: int = 0
    prepared_tokens: int = 0
    generated_tokens: int = 0

    @property
    def fresh_tokens(self) -> int:
        """Tokens of the prompt that were read for this reply."""
        return self.prompt_tokens - self.cached_tokens


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
    same text again. In a conversation also `guard` (what followed had been said before and was left out) and
    `fallback` (a set phrase, because nothing else would do).
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
class TokenLogprob:
    """A token's log-probability (natural logarithm) before any rule, and the most probable tokens beside it."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
