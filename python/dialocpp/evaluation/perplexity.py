"""How well does a model foresee texts: perplexity per token, and bits per byte, which compares vocabularies?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from dialocpp.engine.scoring import score_texts
from dialocpp.model import Model

# Texts that are read in one batch.
_BATCH = 16


@dataclass(frozen=True)
class Foresight:
    """What `read_texts` found. The first token of each text is read and not foreseen."""

    texts: int
    tokens: int
    """Foreseen ones, end-of-text included."""
    bytes: int
    """UTF-8 bytes of what was read, and one for each end-of-text."""
    nats: float
    """-log P of the foreseen tokens."""

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes


def read_texts(model: Model, texts: Iterable[Sequence[int]], positions: int | None = None) -> Foresight:
    """Read token ids, of each text the first `positions`, by default as many as the model has.

    ValueError if the model ranks replies, or if no text holds two tokens or more.
    """
    model.runtime.check_writes()
    window = min(positions or model.config.n_positions, model.config.n_positions)
    sizes = [len(piece) for piece in model.tokenizer.pieces()]
    end = model.tokenizer.eos_token_id
    count = tokens = bytes_ = 0
    nats = 0.0
    whole = (list(text[:window]) for text in texts if len(text[:window]) > 1)
    while batch := list(islice(whole, _BATCH)):
        scored = score_texts(model.runtime, [(text[:1], text[1:]) for text in batch])
        count += len(batch)
        tokens += sum(map(len, scored))
        nats -= math.fsum(map(math.fsum, scored))
        bytes_ += sum(1 if token == end else sizes[token] for text in batch for token in text)
    if not count:
        raise ValueError("expected at least one text of two tokens or more, found none; give more text.")
    return Foresight(count, tokens, bytes_, nats)
