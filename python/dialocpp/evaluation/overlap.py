"""How much of a text stands in its references: BLEU and NIST, as mteval-v14.pl computes them?

Each segment gives counts, and a score is a function of their sums, so that a bootstrap counts nothing again.
Papineni et al. 2002, BLEU; Doddington 2002, NIST. Both are cumulative: BLEU-4 and NIST-4 look at 1 to 4 words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .ngrams import count_ngrams, words_of

ORDERS = 5  # NIST's longest n-gram; BLEU uses the first four

F64 = npt.NDArray[np.float64]
Ngram = tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """Counts of S segments (S, ...), or their sums without the first axis."""

    matches: F64
    """(S, N) n-grams of the text that a reference holds, each as often as it stands in one of them at most."""
    totals: F64
    """(S, N) n-grams of the text."""
    information: F64
    """(S, N) bits that the matches tell."""
    length: F64
    """(S,) words of the text."""
    closest: F64
    """(S,) words of the reference whose length is closest; of two, the shorter."""
    average: F64
    """(S,) words of a reference on average."""

    def summed(self, weights: F64) -> Overlap:
        """Each segment taken as often as `weights` (S,) say."""
        return Overlap(*(weights @ field for field in self._fields()))

    def _fields(self) -> tuple[F64, ...]:
        return self.matches, self.totals, self.information, self.length, self.closest, self.average

    def bleu(self, order: int) -> float:
        """Of sums. An order without a match counts as half a match, the next one as a quarter, as in mteval-v14.pl."""
        if not self.totals[0]:
            return 0.0
        logs, smooth = [], 1.0
        for match, total in zip(self.matches[:order], self.totals[:order], strict=True):
            if not total:
                break
            if not match:
                smooth *= 2
            logs.append(math.log((match or 1 / smooth) / total))
        brevity = min(0.0, 1 - float(self.closest) / float(self.length))
        return math.exp(sum(logs) / order + brevity) if len(logs) == order and self.matches.any() else 0.0

    def nist(self, order: int) -> float:
        """Of sums. Half the score for a text two thirds as long as its references."""
        if not self.length:
            return 0.0
        bits = sum(i / t for i, t in zip(self.information[:order], self.totals[:order], strict=True) if t)
        ratio = min(1.0, float(self.length) / float(self.average)) if self.average else 1.0
        return float(bits) * math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(ratio) ** 2)


def overlap(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Overlap:
    """`references[r][s]` is what reference r says where the text says `hypotheses[s]`."""
    segments = [[words_of(text) for text in texts] for texts in zip(*references, strict=True)]
    bits = _information([words for segment in segments for words in segment])
    rows = [_segment(words_of(text), words, bits) for text, words in zip(hypotheses, segments, strict=True)]
    matches, totals, information, length, closest, average = zip(*rows, strict=True)
    return Overlap(*(np.array(field, np.float64) for field in (matches, totals, information, length, closest, average)))


def _information(texts: Sequence[list[str]]) -> dict[Ngram, float]:
    """log2(how often its beginning occurs / how often it occurs), of every n-gram of the references."""
    counts: Counter[Ngram] = Counter({(): sum(map(len, texts))})
    for words in texts:
        for order in range(1, ORDERS + 1):
            counts.update(count_ngrams(words, order))
    return {ngram: math.log2(counts[ngram[:-1]] / count) for ngram, count in counts.items() if ngram}


def _segment(
    words: list[str], references: Sequence[list[str]], bits: dict[Ngram, float]
) -> tuple[list[int], list[int], list[float], int, int, float]:
    matches, totals, information = [], [], []
    for order in range(1, ORDERS + 1):
        counts = count_ngrams(words, order)
        most: Counter[Ngram] = Counter()
        for reference in references:
            most |= count_ngrams(reference, order)
        found = counts & most
        matches.append(found.total())
        totals.append(counts.total())
        information.append(math.fsum(bits[ngram] * count for ngram, count in found.items()))
    lengths = [len(reference) for reference in references]
    closest = min(lengths, key=lambda length: (abs(length - len(words)), length))
    return matches, totals, information, len(words), closest, sum(lengths) / len(lengths)
