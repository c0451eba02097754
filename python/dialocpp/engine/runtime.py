"""What does everybody who submits jobs hold: the tokenizer, the model's numbers, the engine and its scheduler?

Model makes one. Sessions, rankers and servers hold it and no Model; a test hands in one with a scripted engine or
scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dialocpp import _core
from dialocpp.decoding.generation_config import GenerationConfig
from dialocpp.decoding.rules import Rules
from dialocpp.errors import CapacityError
from dialocpp.text.tokenizer import Tokenizer

from .background import Driver
from .beam_search import Beams, BeamSearch
from .job import Job
from .request import RUN_AHEAD, Request
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
    driver: Driver = field(init=False)
    """Runs steps for those who wait on event loops."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "driver", Driver(self.scheduler))

    def check_writes(self) -> None:
        """ValueError for a model that ranks replies: it has no token to choose."""
        if self.ranks:
            raise ValueError(
                f"expected a model that writes, found {self.name}, which ranks replies; use Model.rank, and for the "
                "conversation a language model such as microsoft/DialoGPT-small"
            )

    def check_positions(self, tokens: int, what: str) -> None:
        """CapacityError for more tokens than the model has positions."""
        if tokens > self.n_positions:
            raise CapacityError(
                f"expected {what} of at most {self.n_positions} tokens, the model's positions, "
                f"found {tokens}; shorten it"
            )

    def new_sequence(self) -> _core.Sequence:
        """An empty sequence; its pages are freed when it is dropped."""
        return self.engine.sequence()

    def request(
        self,
        sequence: _core.Sequence,
        prompt: list[int],
        config: GenerationConfig,
        *,
        seed: int,
        penalty_start: int,
        run_ahead: int = RUN_AHEAD,
    ) -> Request:
        """A request for one reply, not yet submitted. Penalties look at positions from `penalty_start` on.

        It may be `run_ahead` tokens ahead of who reads it: others' steps serve it too.
        ValueError for a model that ranks or a rule that names no token of it, CapacityError for a prompt that leaves
        no position for a reply.
        """
        rules = self._rules(prompt, config, seed=seed, penalty_start=penalty_start)
        return Request(sequence, prompt, rules, run_ahead=run_ahead)

    def beam_search(
        self, sequence: _core.Sequence, prompt: list[int], config: GenerationConfig, *, penalty_start: int
    ) -> BeamSearch:
        """A beam search, not yet submitted. Errors as of `request`."""
        rules = self._rules(prompt, config, seed=0, penalty_start=penalty_start)
        return BeamSearch(sequence, prompt, rules, Beams.of(config))

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

    def _rules(self, prompt: Sequence[int], config: GenerationConfig, *, seed: int, penalty_start: int) -> Rules:
        self.check_writes()
        if not prompt:
            raise ValueError("expected a prompt of at least one token, found none; give it a text or the end-of-text")
        self.check_positions(len(prompt), "a prompt")
        return Rules.of(
            config,
            self.tokenizer,
            prompt,
            eos_token_ids=self.eos_token_ids,
            n_positions=self.n_positions,
            vocab_size=self.vocab_size,
            seed=seed,
            penalty_start=penalty_start,
        )
