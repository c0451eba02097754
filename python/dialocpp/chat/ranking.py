"""Which of several replies is the best? Rankers score them, and weighted sums of rankers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from dialocpp.errors import ask
from dialocpp.prompt.turns import Turn

from .reply import Candidate


@runtime_checkable
class Ranker(Protocol):
    """Scores replies. `name` is what a Reply reports its scores under."""

    @property
    def name(self) -> str: ...

    def score(self, context: Sequence[Turn], candidates: Sequence[Candidate]) -> Sequence[float]:
        """One number for each candidate, higher is better. `context`: the visible turns, the message last."""
        ...


@dataclass(frozen=True)
class FunctionRanker:
    """A user's function as a ranker: `function(context, reply)` with plain texts gives a number."""

    function: Callable[[list[str], str], float]
    name: str = "function"

    def score(self, context: Sequence[Turn], candidates: Sequence[Candidate]) -> list[float]:
        """The function's number for each candidate."""
        texts = [turn.content for turn in context]
        return [float(self.function(texts, candidate.text)) for candidate in candidates]


AnyRanker = Ranker | Callable[[list[str], str], float]
RankerArgument = AnyRanker | Sequence[AnyRanker | tuple[AnyRanker, float]]


@dataclass(frozen=True)
class Ranking:
    """Rankers with their weights; a candidate's `total` is the weighted sum of its scores."""

    weighted: tuple[tuple[Ranker, float], ...] = ()

    @classmethod
    def of(cls, rankers: RankerArgument = ()) -> Ranking:
        """From a ranker, a function, or a list of them, each alone or as (ranker, weight)."""
        given = [rankers] if callable(rankers) or isinstance(rankers, Ranker) else list(rankers)
        pairs = [item if isinstance(item, tuple) else (item, 1.0) for item in given]
        weighted = tuple((_as_ranker(ranker), float(weight)) for ranker, weight in pairs)
        names = [ranker.name for ranker, _ in weighted]
        if len(set(names)) < len(names):
            raise ValueError(f"expected rankers with different names, found {', '.join(names)}; give each its own")
        return cls(weighted)

    def also(self, ranker: Ranker, weight: float = 1.0) -> Ranking:
        """With one ranker more."""
        return Ranking.of([*self.weighted, (ranker, weight)])

    def __bool__(self) -> bool:
        return bool(self.weighted)

    def scored(self, context: Sequence[Turn], candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with their scores by ranker and their `total`. ValueError for scores that are none."""
        if not self.weighted:
            return list(candidates)
        scores = [dict(candidate.scores) for candidate in candidates]
        # The same text drawn twice is ranked once.
        different = list({candidate.text: candidate for candidate in candidates}.values())
        for ranker, _ in self.weighted:
            values = [float(value) for value in ask(f"ranker {ranker.name}", ranker.score, context, different)]
            if len(values) != len(different) or any(map(math.isnan, values)):
                raise ValueError(
                    f"ranker {ranker.name}: expected {len(different)} numbers, one for each candidate, found {values}; "
                    "let its score() give one for each"
                )
            by_text = dict(zip((candidate.text for candidate in different), values, strict=True))
            for mine, candidate in zip(scores, candidates, strict=True):
                mine[ranker.name] = by_text[candidate.text]
        for mine in scores:
            mine["total"] = sum(weight * mine[ranker.name] for ranker, weight in self.weighted)
        return [replace(candidate, scores=mine) for candidate, mine in zip(candidates, scores, strict=True)]


def _as_ranker(ranker: Any) -> Ranker:
    if isinstance(ranker, Ranker):
        return ranker
    if callable(ranker):
        return FunctionRanker(ranker, getattr(ranker, "__name__", "function"))
    raise TypeError(f"expected a ranker with name and score(), or a function, found {ranker!r}; give one of these")
