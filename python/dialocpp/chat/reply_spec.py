"""What does a reply depend on, beside the model? Everything that is fixed before the first token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from dialocpp.decoding.generation_config import CHAT, GenerationConfig
from dialocpp.decoding.seeds import derived_seed
from dialocpp.prompt.turns import Turn

from .guards import Guard
from .ranking import Ranking


@dataclass(frozen=True)
class Task:
    """All that an answer depends on, beside the model."""

    prompt: list[int]
    context: Sequence[Turn]
    config: GenerationConfig
    seed: int
    guard: Guard
    num_candidates: int
    max_retries: int
    ranking: Ranking
    fallback: Sequence[str]

    @property
    def streams(self) -> bool:
        """Can text be shown before the reply is complete?"""
        one = self.num_candidates == 1 and self.config.num_beams == 1
        return one and not self.ranking and self.guard.accepts is None

    def attempt(self, retry: int) -> GenerationConfig:
        """The rules of an attempt. Greedy decoding would only say the same again, so after it the reply is drawn."""
        if retry == 0 or self.config.do_sample:
            return self.config
        return dataclasses.replace(
            self.config,
            do_sample=True,
            num_beams=1,
            num_beam_groups=1,
            num_return_sequences=1,
            temperature=CHAT.temperature,
            top_k=CHAT.top_k,
            top_p=CHAT.top_p,
            no_repeat_ngram_size=CHAT.no_repeat_ngram_size,
        )

    def seed_of(self, retry: int, index: int) -> int:
        """The seed of a candidate; the first one's is the answer's own."""
        return self.seed if retry == index == 0 else derived_seed(self.seed, retry, index)
