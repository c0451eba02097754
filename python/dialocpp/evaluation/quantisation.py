"""How much does a quantised model differ from its original, when both read the same texts?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dialocpp.model import Model

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Rows of logits that are compared at once: what this takes besides the logits stays small for any vocabulary.
_ROWS = 64


@dataclass(frozen=True)
class Quality:
    """What `compare` found. Positions: all tokens read; predicted: all but the first of each text."""

    texts: int
    positions: int
    predicted: int
    reference_perplexity: float
    perplexity: float
    mean_kl: float
    """KL(reference ‖ candidate) of the next token's distribution in nats, the mean over all positions."""
    top1_agreement: float
    """The share of positions at which both models hold the same token for the most probable one."""

    @property
    def relative_difference(self) -> float:
        """How much higher the candidate's perplexity is, relative to the reference's."""
        return self.perplexity / self.reference_perplexity - 1


def compare(reference: Model, candidate: Model, texts: Iterable[Sequence[int]]) -> Quality:
    """Read token ids with both models, each text cut to the models' window.

    ValueError if the two have different vocabularies, if one of them ranks replies, or if no text holds two tokens or
    more.
    """
    reference.runtime.check_writes()
    candidate.runtime.check_writes()
    if reference.config.vocab_size != candidate.config.vocab_size:
        raise ValueError(
            f"expected two models of one vocabulary, found {reference.config.vocab_size} and "
            f"{candidate.config.vocab_size} tokens; compare a model with its own copy."
        )
    window = min(reference.config.n_positions, candidate.config.n_positions)
    count = positions = agreed = 0
    divergence = 0.0
    logprobs = np.zeros(2)  # of the predicted tokens: reference, candidate
    for text in texts:
        ids = list(text[:window])
        if len(ids) < 2:
            continue
        count, positions = count + 1, positions + len(ids)
        pair = reference.logits(ids), candidate.logits(ids)
        for first in range(0, len(ids), _ROWS):
            rows = slice(first, first + _ROWS)
            following = np.array(ids[first + 1 : first + 1 + _ROWS], np.int64)
            sums, kl, same = _compare_rows(pair[0][rows], pair[1][rows], following)
            logprobs += sums
            divergence += kl
            agreed += same
    if not count:
        raise ValueError("expected at least one text of two tokens or more, found none; give more text.")
    predicted = positions - count
    return Quality(
        texts=count,
        positions=positions,
        predicted=predicted,
        reference_perplexity=math.exp(-logprobs[0] / predicted),
        perplexity=math.exp(-logprobs[1] / predicted),
        mean_kl=divergence / positions,
        top1_agreement=agreed / positions,
    )


def _compare_rows(reference: F32, candidate: F32, following: npt.NDArray[np.int64]) -> tuple[F64, float, int]:
    """Logits (R, V) twice -> both sums of log P(following), the sum of the KLs, and the rows that agree.

    `following` are the next tokens: R of them, or R - 1 where the text ends.
    """
    p, q = _log_softmax(reference), _log_softmax(candidate)
    at = np.arange(len(following)), following
    sums = np.array([rows[at].sum(dtype=np.float64) for rows in (p, q)])
    kl = float(np.einsum("rv,rv->", np.exp(p), p - q, dtype=np.float64))
    return sums, kl, int((reference.argmax(axis=1) == candidate.argmax(axis=1)).sum())


def _log_softmax(logits: F32) -> F32:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: F32 = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
