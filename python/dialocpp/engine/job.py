"""What is a job of the scheduler, and how does one give back what it took of the cache?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dialocpp import _core
from dialocpp.decoding.rules import Rules


class Job(Protocol):
    """Something that needs steps: a reply in the making (`Request`), a text to score, a beam search.

    What a job knows is what it has committed. A step that was interrupted before its commit is run again, with the
    same result, so `plan` first cuts each sequence back to what the job knows.
    """

    error: BaseException | None
    cancelled: bool

    def begin(self) -> None:
        """It is queued now."""

    @property
    def done(self) -> bool:
        """Nothing more is to be computed."""

    @property
    def waits(self) -> bool:
        """It is so far ahead of its reader that it needs no step now."""

    @property
    def writes(self) -> bool:
        """It is past its prompt: such jobs come first, because each of their steps is short."""

    def plan(self, budget: int) -> list[_core.Work]:
        """The work of its next step: at least one token, about `budget` tokens at most; empty if that is too few."""

    def commit(self, outcomes: Sequence[_core.Outcome]) -> None:
        """Note what came of the planned work."""

    def give_back(self) -> None:
        """An error ends it: free what it took of the cache."""


class TokenJob(Job, Protocol):
    """A job that is read token by token."""

    @property
    def has_token(self) -> bool:
        """There is a token that the reader has not seen."""

    def take(self) -> int | None:
        """The next token that the reader has not seen; None if there is none yet."""


class SequenceJob(Job, Protocol):
    """A job with one sequence."""

    sequence: _core.Sequence


class CancelledJobError(Exception):
    """Another thread has cancelled the job that this one waits for."""


@dataclass(eq=False)
class WritingJob:
    """What a reply in the making and a search for replies have in common; not a whole job."""

    sequence: _core.Sequence
    prompt: list[int]
    rules: Rules
    cached_tokens: int = field(default=0, kw_only=True)  # of the prompt, found in the sequence
    error: BaseException | None = field(default=None, kw_only=True)
    cancelled: bool = field(default=False, kw_only=True)
    submitted: float = field(default=0.0, kw_only=True)  # seconds of time.perf_counter, as the next two
    first_token: float = field(default=0.0, kw_only=True)
    last_token: float = field(default=0.0, kw_only=True)

    def begin(self) -> None:
        """What the sequence already holds of the prompt is not read again; but the last token is, for its logits."""
        self.cached_tokens = min(hold_common_prefix(self.sequence, self.prompt), len(self.prompt) - 1)
        self.submitted = time.perf_counter()

    def give_back(self) -> None:
        cut_to(self.sequence, self.cached_tokens)


@dataclass(eq=False)
class Prefill:
    """Read a prompt into its sequence and ask for nothing: what comes after it forks the sequence."""

    sequence: _core.Sequence
    prompt: list[int]
    cached_tokens: int = 0
    error: BaseException | None = None
    cancelled: bool = False
    waits = False
    writes = False

    def begin(self) -> None:
        self.cached_tokens = hold_common_prefix(self.sequence, self.prompt)

    @property
    def done(self) -> bool:
        return len(self.sequence) >= len(self.prompt)

    def plan(self, budget: int) -> list[_core.Work]:
        start = len(self.sequence)
        return [_core.Work(self.sequence, self.prompt[start : start + budget])]

    def commit(self, outcomes: Sequence[_core.Outcome]) -> None:
        """The sequence itself knows what it has read."""

    def give_back(self) -> None:
        cut_to(self.sequence, self.cached_tokens)


def cut_to(sequence: _core.Sequence, length: int) -> None:
    """At most so many tokens; the pages after them are free again."""
    sequence.truncate(min(length, len(sequence)))


def hold_common_prefix(sequence: _core.Sequence, prompt: Sequence[int]) -> int:
    """Cut the sequence back to what it shares with the prompt; returns how many tokens that is."""
    held = sequence.tokens
    common = 0
    for left, right in zip(held, prompt, strict=False):
        if left != right:
            break
        common += 1
    if common < len(held):
        sequence.truncate(common)
    return common
