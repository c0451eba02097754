"""What does everybody who submits jobs hold: the tokenizer, the model's numbers, the engine and its scheduler?

Model makes one. Sessions, rankers and servers hold it and no Model; a test hands in one with a scripted engine or
scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dialocpp import _core
from dialocpp.decoding.bad_words import word_guard
from dialocpp.decoding.generation_config import GenerationConfig
from dialocpp.errors import CapacityError
from dialocpp.text.tokenizer import Tokenizer

from .beam_search import BeamSearch
from .job import Job
from .request import Request
from .scheduler import Scheduler


@dataclass(frozen=True, eq=False)
class Runtime:
    """A model at work. Safe from many threads; everybody who holds it shares the steps of its engine."""

    name: str
    tokenizer: Tokenizer
    eos_token_ids: tuple[int, ...]
    n_positions: int
    vocab_size: int
    engine: _core.Engine
    scheduler: Scheduler
    ranks: bool = False
    """It scores replies and has no token to choose."""

    def check_writes(self) -> None:
        """ValueError for a model that ranks replies: it has no token to choose."""
        if self.ranks:
            raise ValueError(
                f"{self.name} ranks replies, it does not write them; use Model.rank, and for the conversation a "
                "language model such as microsoft/DialoGPT-small."
            )

    def new_sequence(self) -> _core.Sequence:
        """An empty sequence; its pages are freed when it is dropped."""
        return self.engine.sequence()

    def request(
        self, sequence: _core.Sequence, prompt: list[int], config: GenerationConfig, *, seed: int, penalty_start: int
    ) -> Request:
        """A request for one reply, not yet submitted. Penalties look at positions from `penalty_start` on.

        ValueError for a model that ranks or a rule that names no token of it, CapacityError for a prompt that leaves
        no position for a reply.
        """
        self._check(prompt)
        guard = word_guard(self.tokenizer, config.bad_words) if config.bad_words else None
        return Request(
            sequence,
            prompt,
            self._rules(prompt, config, seed=seed, penalty_start=penalty_start),
            config.max_new_tokens,
            config.eos_token_ids(self.eos_token_ids),
            self.n_positions,
            stops=self._stops(config),
            processor=config.logits_processor,
            top_logprobs=-1 if config.top_logprobs is None else config.top_logprobs,
            max_time=config.max_time,
            bans=guard.bans if guard else None,
        )

    def beam_search(
        self, sequence: _core.Sequence, prompt: list[int], config: GenerationConfig, *, penalty_start: int
    ) -> BeamSearch:
        """A beam search, not yet submitted. Errors as of `request`."""
        self._check(prompt)
        guard = word_guard(self.tokenizer, config.bad_words) if config.bad_words else None
        return BeamSearch(
            sequence,
            prompt,
            self._rules(prompt, config, seed=0, penalty_start=penalty_start),
            config.num_beams,
            config.max_new_tokens,
            config.eos_token_ids(self.eos_token_ids),
            self.n_positions,
            length_penalty=config.length_penalty,
            early_stopping=config.early_stopping,
            num_beam_groups=config.num_beam_groups,
            diversity_penalty=config.diversity_penalty,
            stops=self._stops(config),
            max_time=config.max_time,
            bans=guard.bans if guard else None,
        )

    @contextmanager
    def running(self, jobs: Sequence[Job]) -> Iterator[Scheduler]:
        """The jobs are served until the block is left, by whatever way."""
        try:
            for job in jobs:
                self.scheduler.submit(job)
            yield self.scheduler
        finally:
            for job in jobs:
                self.scheduler.cancel(job)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs to their end, all of them together. Raises the error of the first that has one."""
        with self.running(jobs) as scheduler:
            for job in jobs:
                scheduler.finish(job)

    def _check(self, prompt: Sequence[int]) -> None:
        self.check_writes()
        if len(prompt) > self.n_positions:
            raise CapacityError(
                f"The prompt has {len(prompt)} tokens, but the model has {self.n_positions} positions; shorten it."
            )

    def _rules(
        self, prompt: list[int], config: GenerationConfig, *, seed: int, penalty_start: int
    ) -> _core.Sampling:
        config.check_token_ids(self.vocab_size)
        guard = word_guard(self.tokenizer, config.bad_words) if config.bad_words else None
        return config.sampling(
            eos_token_ids=config.eos_token_ids(self.eos_token_ids),
            seed=seed,
            reply_start=len(prompt),
            penalty_start=penalty_start,
            # The last token needs no position of its own: no step appends it.
            max_length=min(len(prompt) + config.max_new_tokens, self.n_positions + 1),
            banned_ids=guard.always if guard else (),
        )

    def _stops(self, config: GenerationConfig) -> Callable[[list[int]], bool] | None:
        strings = config.stopping_strings
        if not strings:
            return None

        def stops(generated: list[int]) -> bool:
            text = self.tokenizer.decode(generated, skip_special_tokens=True)
            return any(string in text for string in strings)

        return stops
