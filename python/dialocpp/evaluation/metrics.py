"""How good are written replies, by the measures of DialoGPT's paper?

NIST and BLEU compare them with one or several references; entropy, distinct n-grams and length need none. Nothing here
asks a network or a model. A measure is a function of how often each reply is taken: once for the value, and as often as
chance draws it for the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from .diversity import lengths, ngrams
from .overlap import Overlap, overlap

F64 = npt.NDArray[np.float64]
Measure = Callable[[F64], float]


@dataclass(frozen=True)
class Value:
    """One measure of a set of replies."""

    value: float
    margin: float | None
    """Half of the 95 % interval: 1.96 standard errors by bootstrap; None where it is not known."""


def measures(hypotheses: Sequence[str], references: Sequence[Sequence[str]] = ()) -> dict[str, Measure]:
    """The measures that these texts allow, as functions of weights (S,).

    `references[r][s]` belongs to `hypotheses[s]`. ValueError for no text, or for files of unequal length.
    """
    _check(hypotheses, references)
    found: dict[str, Measure] = {}
    if references:
        counts = overlap(hypotheses, references)
        found |= {f"NIST-{order}": partial(_nist, counts, order) for order in (2, 4)}
        found |= {f"BLEU-{order}": partial(_bleu, counts, order) for order in (2, 4)}
    grams = {order: ngrams(hypotheses, order) for order in (1, 2, 4)}
    words = lengths(hypotheses)
    return found | {
        "Entropy-4": grams[4].entropy,
        "Dist-1": grams[1].distinct,
        "Dist-2": grams[2].distinct,
        "Avg. length": lambda weights: float(weights @ words / weights.sum()),
    }


def evaluated(measure: Measure, count: int, samples: int = 1000, seed: int = 0) -> Value:
    """The measure of all `count` texts, and how far it would go astray with other texts of the same kind.

    The margin is 1.96 standard deviations over `samples` draws of `count` texts with replacement. It is not the
    percentiles of those draws: they hold fewer distinct n-grams than the texts do, so Dist-n would lie outside.
    `samples=0`: no margin. The same seed gives the same margin.
    """
    value = measure(np.ones(count))
    if not samples:
        return Value(value, None)
    rng = np.random.default_rng(seed)
    drawn = [measure(rng.multinomial(count, np.full(count, 1 / count)).astype(np.float64)) for _ in range(samples)]
    return Value(value, 1.96 * float(np.std(drawn)))


def _nist(counts: Overlap, order: int, weights: F64) -> float:
    return counts.summed(weights).nist(order)


def _bleu(counts: Overlap, order: int, weights: F64) -> float:
    return counts.summed(weights).bleu(order)


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not hypotheses:
        raise ValueError("expected at least one reply, found none; give a file with one reply a line.")
    for number, texts in enumerate(references, start=1):
        if len(texts) != len(hypotheses):
            raise ValueError(
                f"expected {len(hypotheses)} lines in reference {number}, one for each reply, found {len(texts)}; "
                "line n of each file must belong together."
            )
