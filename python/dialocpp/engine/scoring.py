"""How probable are given texts, and what does a model put out after them?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dialocpp import _core

from .job import Prefill, cut_to, hold_common_prefix
from .runtime import Runtime


def score_after(runtime: Runtime, prefix: list[int], continuations: Sequence[list[int]]) -> list[list[float]]:
    """log P of each token of each continuation after the same prefix, which is read once."""
    jobs = [Scoring(sequence, prefix + ids, len(ids)) for sequence, ids in _forks(runtime, prefix[:-1], continuations)]
    runtime.run(jobs)
    return [job.logprobs for job in jobs]


def score_texts(runtime: Runtime, texts: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
    """log P of each token of the second part of each text, given all before it; all in one batch."""
    jobs = [Scoring(runtime.new_sequence(), prefix + ids, len(ids)) for prefix, ids in texts]
    runtime.run(jobs)
    return [job.logprobs for job in jobs]


def outputs_after(runtime: Runtime, prefix: list[int], continuations: Sequence[list[int]]) -> list[_core.F32]:
    """The model's outputs (V or num_labels) after each continuation of the same prefix, which is read once."""
    jobs = [Outputs(sequence, prefix + ids) for sequence, ids in _forks(runtime, prefix, continuations)]
    runtime.run(jobs)
    return [job.outputs for job in jobs if job.outputs is not None]


def _forks(
    runtime: Runtime, prefix: list[int], continuations: Sequence[list[int]]
) -> Iterator[tuple[_core.Sequence, list[int]]]:
    sequence = runtime.new_sequence()
    runtime.run([Prefill(sequence, prefix)])
    return ((sequence.fork(), ids) for ids in continuations)


@dataclass(eq=False)
class Scoring:
    """log P of the last `scored` of `tokens`, each given all before it. What the sequence holds is not read again."""

    sequence: _core.Sequence
    tokens: list[int]
    scored: int
    logprobs: list[float] = field(default_factory=list)
    error: BaseException | None = None
    cancelled: bool = False
    waits = False
    writes = False

    def begin(self) -> None:
        hold_common_prefix(self.sequence, self.tokens[: self._first])

    @property
    def _first(self) -> int:
        """The row that scores the first token."""
        return len(self.tokens) - self.scored - 1

    @property
    def done(self) -> bool:
        return len(self.logprobs) == self.scored

    def plan(self, budget: int) -> list[_core.Work]:
        # A token is scored by the row before it, so that row is read again with the next piece.
        start = min(len(self.sequence), self._first + len(self.logprobs))
        self.sequence.truncate(start)
        row = max(start, self._first)
        end = min(len(self.tokens), start + budget)
        # A scored row costs a row of the head too; at least one is scored once the prefix is read.
        end = min(end, row + 1 + max(budget // 2, 1))
        end = max(end, start + 2 if start == row else 0)
        return [_core.Work(self.sequence, self.tokens[start:end], scored=max(0, end - 1 - row))]

    def commit(self, outcomes: Sequence[_core.Outcome]) -> None:
        self.logprobs += outcomes[0].logprobs

    def give_back(self) -> None:
        cut_to(self.sequence, 0)


@dataclass(eq=False)
class Outputs:
    """What the model gives out after the last of `tokens`: (V,), or (num_labels,) of a model that ranks."""

    sequence: _core.Sequence
    tokens: list[int]
    outputs: _core.F32 | None = None
    error: BaseException | None = None
    cancelled: bool = False
    waits = False
    writes = False

    def begin(self) -> None:
        hold_common_prefix(self.sequence, self.tokens[:-1])

    @property
    def done(self) -> bool:
        return self.outputs is not None

    def plan(self, budget: int) -> list[_core.Work]:
        start = min(len(self.sequence), len(self.tokens) - 1)
        self.sequence.truncate(start)
        tokens = self.tokens[start : start + budget]
        return [_core.Work(self.sequence, tokens, logits=start + len(tokens) == len(self.tokens))]

    def commit(self, outcomes: Sequence[_core.Outcome]) -> None:
        if len(logits := outcomes[0].logits):
            self.outputs = logits

    def give_back(self) -> None:
        cut_to(self.sequence, 0)
