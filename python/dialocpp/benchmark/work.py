"""How much must a machine read and multiply for a token? Counts from the config, not from the clock.

Letters: C channels, L layers, V vocabulary, T positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dialocpp import _core
from dialocpp.checkpoint.config import ModelConfig


@dataclass(frozen=True)
class TokenWork:
    """What the linear layers cost. The tables of embeddings are read a row at a time and count as nothing."""

    layer_weights: int
    head_weights: int
    attention_width: int  # L · C
    bytes_per_weight: float  # without scales

    @property
    def bytes_per_step(self) -> int:
        """Weights read once in every step, whatever the number of its rows."""
        return round((self.layer_weights + self.head_weights) * self.bytes_per_weight)

    def prefill_operations(self, tokens: int) -> int:
        """Multiplications and additions of a prompt: the head is for its last token only."""
        attention = 4 * self.attention_width * tokens * (tokens + 1) // 2
        return 2 * (self.layer_weights * tokens + self.head_weights) + attention

    def decode_operations(self, position: int) -> int:
        """Multiplications and additions of one token that looks at `position` positions."""
        return 2 * (self.layer_weights + self.head_weights) + 4 * self.attention_width * position


def token_work(config: ModelConfig, dtype: str) -> TokenWork:
    """The work of a model that keeps its weights as `dtype`."""
    channels = config.n_embd
    layer = 4 * channels * channels + 2 * channels * config.n_inner
    element, shape = _core.packed_layout(channels, 3 * channels, dtype)[""]
    return TokenWork(
        layer_weights=config.n_layer * layer,
        head_weights=config.vocab_size * channels,
        attention_width=config.n_layer * channels,
        bytes_per_weight=np.dtype(element).itemsize * math.prod(shape) / (3 * channels**2),
    )
