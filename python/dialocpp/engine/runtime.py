"""What does everybody who submits jobs hold: the tokenizer, the model's numbers and the scheduler?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from dialocpp import _core
from dialocpp.errors import CapacityError
from dialocpp.text.tokenizer import Tokenizer

from .job import Job
from .scheduler import Scheduler


class Host(Protocol):
    """What jobs need of a host."""

    tokenizer: Tokenizer
    eos_token_ids: tuple[int, ...]
    n_positions: int
    vocab_size: int

    def new_sequence(self) -> _core.Sequence: ...
    def running(self, jobs: Sequence[Job]) -> AbstractContextManager[Scheduler]: ...


def run(host: Host, jobs: Sequence[Job]) -> None:
    """Run jobs to their end, all of them together."""
    with host.running(jobs) as scheduler:
        for job in jobs:
            scheduler.finish(job)


def check_length(host: Host, prompt: Sequence[int]) -> None:
    """CapacityError for a prompt that leaves no position for a reply."""
    if len(prompt) > host.n_positions:
        raise CapacityError(
            f"The prompt has {len(prompt)} tokens, but the model has {host.n_positions} positions; shorten it."
        )
