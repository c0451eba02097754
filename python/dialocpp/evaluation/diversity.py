"""How much of a set of texts is new: Entropy-n, Dist-n and the average length, as DialoGPT's dstc/metrics.py has them?

Words are what stands between spaces, as they are. Entropy is in nats: Zhang et al. 2018, arXiv:1809.05972. Dist-n is
distinct n-grams ÷ all: Li et al. 2016, arXiv:1510.03055.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ngrams:
    """The I n-grams of S texts, one after the other."""

    kinds: I64
    """(I,) the same number for the same n-gram, from 0."""
    texts: I64
    """(I,) in which text it stands."""

    def counts(self, weights: F64) -> F64:
        """How often each kind occurs when each text is taken as often as `weights` (S,) say; zeros left out."""
        counts: F64 = np.bincount(self.kinds, weights[self.texts]).astype(np.float64)
        return counts[counts > 0]

    def entropy(self, weights: F64) -> float:
        """Nats; 0 where there is no n-gram."""
        shares = self.counts(weights)
        shares = shares / max(shares.sum(), 1)
        return float(-(shares * np.log(shares)).sum()) + 0.0

    def distinct(self, weights: F64) -> float:
        """The share of the n-grams that are different; 0 where there is none."""
        counts = self.counts(weights)
        return len(counts) / max(float(counts.sum()), 1.0)


def ngrams(texts: Sequence[str], order: int) -> Ngrams:
    numbers: dict[tuple[str, ...], int] = {}
    kinds, places = [], []
    for place, text in enumerate(texts):
        words = text.split()
        for i in range(len(words) - order + 1):
            kinds.append(numbers.setdefault(tuple(words[i : i + order]), len(numbers)))
            places.append(place)
    return Ngrams(np.array(kinds, np.int64), np.array(places, np.int64))


def lengths(texts: Sequence[str]) -> F64:
    """(S,) words of each text."""
    return np.array([len(text.split()) for text in texts], np.float64)
