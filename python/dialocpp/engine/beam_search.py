"""Which continuations are the most probable as a whole? Beam search, as transformers 5 does it.

Each beam is a fork of one sequence, so all share the pages of what they have in common. With groups it is the diverse
beam search of Vijayakumar et al. (2016, arXiv:1610.02424): a group pays for each token that an earlier group has just
taken.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from dialocpp import _core
from dialocpp.decoding.generation_config import GenerationConfig

from .job import WritingJob


@dataclass(frozen=True)
class Finished:
    """A whole continuation. `score`: its log-probability after the rules ÷ length ** length_penalty."""

    score: float
    generated: list[int]
    finish_reason: str

    @property
    def reply_ids(self) -> list[int]:
        """The generated ids without the end-of-text."""
        return self.generated[:-1] if self.finish_reason == "eos" else self.generated


@dataclass(frozen=True)
class _Beam:
    sequence: _core.Sequence
    generated: list[int]
    score: float


@dataclass(frozen=True)
class _Extension:
    """A beam and the token that may follow it."""

    beam: _Beam
    token: int
    score: float

    @property
    def generated(self) -> list[int]:
        return [*self.beam.generated, self.token]


@dataclass(frozen=True)
class _Group:
    beams: list[_Beam]
    finished: list[Finished] = field(default_factory=list)
    done: bool = False


@dataclass(frozen=True)
class Beams:
    """How wide the search is and how continuations are compared; the names are GenerationConfig's."""

    num_beams: int
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0

    @classmethod
    def of(cls, config: GenerationConfig) -> Beams:
        """The config's."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @property
    def width(self) -> int:
        """Beams of a group."""
        return self.num_beams // self.num_beam_groups

    def score(self, logprob: float, length: int) -> float:
        """Of a continuation of `length` tokens."""
        return float(logprob / length**self.length_penalty)


@dataclass(eq=False)
class BeamSearch(WritingJob):
    """A job whose outcome is `finished`, best first."""

    beams: Beams
    waits = False
    _groups: list[_Group] = field(default_factory=list)
    _tokens: int = 0

    @property
    def done(self) -> bool:
        return bool(self._groups) and all(group.done for group in self._groups)

    @property
    def finished(self) -> list[Finished]:
        """What the search has found, best first."""
        return sorted((f for group in self._groups for f in group.finished), key=lambda f: -f.score)

    @property
    def completion_tokens(self) -> int:
        """Tokens that were chosen, of all beams together."""
        return self._tokens

    @property
    def writes(self) -> bool:
        return bool(self._groups)

    def plan(self, budget: int) -> list[_core.Work]:
        if not self._groups:
            start = min(len(self.sequence), len(self.prompt) - 1)
            self.sequence.truncate(start)
            tokens = self.prompt[start : start + budget]
            if start + len(tokens) < len(self.prompt):
                return [_core.Work(self.sequence, tokens)]
            return [self._asking(self.sequence, tokens, [])]
        work = []
        for beam in self._running():
            beam.sequence.truncate(len(self.prompt) + len(beam.generated) - 1)
            work.append(self._asking(beam.sequence, beam.generated[-1:], beam.generated))
        return work

    def commit(self, outcomes: Sequence[_core.Outcome]) -> None:
        self.last_token = time.perf_counter()
        if len(self.sequence) < len(self.prompt):
            return  # a piece of the prompt
        if self._groups:
            best = dict(zip(map(id, self._running()), (outcome.best for outcome in outcomes), strict=True))
            groups = self._groups
        else:
            self.first_token = self.last_token
            first = _Beam(self.sequence, [], 0.0)
            best = {id(first): outcomes[0].best}
            groups = [_Group([first]) for _ in range(self.beams.num_beam_groups)]
        taken: Counter[int] = Counter()
        # One group after the other: each pays for what those before it have taken.
        chosen = [(group, []) if group.done else self._advance(group, best, taken) for group in groups]
        self._groups = self._with_sequences(chosen)
        self._tokens += len(best)

    def give_back(self) -> None:
        self._groups = []
        super().give_back()

    @property
    def _kept(self) -> int:
        """Extensions of a group that are looked at: so many that `width` of them do not end (beams_to_keep)."""
        return max(2, 1 + len(self.rules.eos_token_ids)) * self.beams.width

    def _running(self) -> list[_Beam]:
        return [beam for group in self._groups if not group.done for beam in group.beams]

    def _asking(self, sequence: _core.Sequence, tokens: list[int], generated: list[int]) -> _core.Work:
        # Tokens that earlier groups took may lose their place: so many more are asked for.
        n_best = self._kept + (self.beams.num_beams if self.beams.diversity_penalty else 0)
        bans = self.rules.banned_after(generated)
        return _core.Work(sequence, tokens, self.rules.sampling, bans=bans, n_best=n_best)

    def _advance(
        self, group: _Group, best: dict[int, list[_core.TokenScore]], taken: Counter[int]
    ) -> tuple[_Group, list[_Extension]]:
        """The group after this step, but for its beams; and what they shall be."""
        extensions = [
            _Extension(beam, c.id, beam.score + c.score - self.beams.diversity_penalty * taken[c.id])
            for beam in group.beams
            for c in best[id(beam)]
        ]
        extensions.sort(key=lambda e: -e.score)
        del extensions[self._kept :]
        length = len(group.beams[0].generated) + 1
        if not extensions:  # the rules ban every token: the beams end here, as a greedy reply would
            end = self.rules.eos_token_ids[:1] or (0,)
            ended = [Finished(self.beams.score(b.score, length), [*b.generated, *end], "eos") for b in group.beams]
            return _Group([], [*group.finished, *ended][: self.beams.width], done=True), []
        ends = [self._end(extension) for extension in extensions]
        running = [e for e, end in zip(extensions, ends, strict=True) if end is None][: self.beams.width]
        # Only the first `width` may end the search; the others are there so that enough go on.
        first = zip(extensions[: self.beams.width], ends, strict=False)
        finished = [
            *group.finished,
            *(Finished(self.beams.score(e.score, length), e.generated, end) for e, end in first if end),
        ]
        finished.sort(key=lambda f: -f.score)
        del finished[self.beams.width :]
        taken.update(extension.token for extension in running)
        done = not running or self._settled(finished, running[0].score, length)
        return _Group([], finished, done), running

    def _end(self, extension: _Extension) -> str | None:
        if extension.token in self.rules.eos_token_ids:
            return "eos"
        if self.rules.stops is not None and self.rules.stops(extension.generated):
            return "stop"
        if self.rules.max_time is not None and self.last_token - self.submitted > self.rules.max_time:
            return "max_time"
        return "length" if len(extension.beam.generated) + 1 >= self.rules.longest(len(self.prompt)) else None

    def _settled(self, finished: list[Finished], best_running: float, length: int) -> bool:
        """Whether a better continuation is no longer to be expected (transformers' early_stopping)."""
        if len(finished) < self.beams.width:
            return False
        if self.beams.early_stopping is True:
            return True
        if self.beams.early_stopping == "never" and self.beams.length_penalty > 0:
            length = self.rules.longest(len(self.prompt))
        return bool(self.beams.score(best_running, length) <= finished[-1].score)

    def _with_sequences(self, chosen: list[tuple[_Group, list[_Extension]]]) -> list[_Group]:
        """Beams with a sequence each: a parent's for its first child, a fork of it for the others."""
        used: set[int] = set()

        def sequence_of(parent: _Beam) -> _core.Sequence:
            if id(parent) in used:
                return parent.sequence.fork(len(self.prompt) + len(parent.generated))
            used.add(id(parent))
            return parent.sequence

        return [
            _Group([_Beam(sequence_of(e.beam), e.generated, e.score) for e in running], group.finished, group.done)
            for group, running in chosen
        ]
