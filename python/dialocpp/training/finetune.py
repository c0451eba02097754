"""What is one whole run of training, from files of dialogues to a folder that can be talked to?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from accelerate import Accelerator

from dialocpp.evaluation.dialogue_formats import BadLines, Dialogue, read_dialogues

from .checkpoints import Checkpoints
from .dataset import Pieces, pieces_of
from .new_model import Start, from_folder, from_shape
from .plan import Plan
from .result import Story, sample_replies, save_model, write_card, write_curve
from .trainer import Outcome, Report, precision_of, train

_SAMPLES = 10


@dataclass(frozen=True)
class Data:
    """Files of dialogues with how often an epoch holds each, and held-out ones: a file, or a share of all."""

    files: Sequence[tuple[Path, float]]
    valid: Path | None = None
    valid_share: float = 0.02
    bad: BadLines = field(default_factory=BadLines)

    def split(self) -> tuple[list[tuple[list[Dialogue], float]], list[Dialogue]]:
        """(dialogues, weight) of each file, and the held-out ones. A dialogue's own text decides, not its place."""
        learnt: list[tuple[list[Dialogue], float]] = []
        held: list[Dialogue] = list(read_dialogues(self.valid, self.bad)) if self.valid else []
        for path, weight in self.files:
            mine: list[Dialogue] = []
            for dialogue in read_dialogues(path, self.bad):
                (held if not self.valid and _share(dialogue) < self.valid_share else mine).append(dialogue)
            learnt.append((mine, weight))
        if not held:
            raise ValueError("expected dialogues to hold out, found none; give more of them, or a file by --valid")
        return learnt, held


def _share(dialogue: Dialogue) -> float:
    """From 0 to 1, by the text alone."""
    digest = hashlib.sha256("\n".join(dialogue.turns).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class Run:
    """What to train, on what, into which folder. Either `base`, a model's folder, or `shape` for a new one."""

    out: Path
    data: Data
    base: Path | None = None
    shape: str | None = None
    vocab_size: int | None = None
    epochs: float | None = None
    reverse: bool = False
    replies_only: bool = False
    licence: str | None = None
    restart: bool = False


@dataclass(frozen=True)
class Finished:
    """What came of a run."""

    outcome: Outcome
    replies: list[tuple[str, str]]


def finetune(run: Run, plan: Plan, report: Report) -> Finished:
    """Train and write `run.out`. A run that was killed goes on where its last checkpoint stands.

    ValueError for arguments and data that cannot be used, CheckpointError for a base that cannot be trained, OSError
    when the disk is full: what was saved before stays.
    """
    accelerator = Accelerator(mixed_precision=precision_of(plan))
    learnt, held = run.data.split()
    start = _start(run, plan, learnt)
    plan = replace(plan, context=min(plan.context, start.model.config.n_positions))
    pieces = _pieces(run, start, plan, learnt)
    valid = _pieces(run, start, plan, [(held, 1.0)])
    if run.epochs is not None:
        plan = replace(plan, steps=max(1, round(run.epochs * pieces.tokens / (plan.rows * plan.context))))
    if plan.gradient_checkpointing:
        start.model.gradient_checkpointing_enable()  # type: ignore[no-untyped-call]
    checkpoints = Checkpoints(run.out, plan.digest(data=_digest(pieces, valid), base=str(run.base or run.shape)))
    if run.restart:
        checkpoints.clear()
    outcome = train(start.model, pieces, valid, plan, checkpoints, report, accelerator)
    if not accelerator.is_main_process:
        return Finished(outcome, [])
    save_model(start.model, start.folder, run.out)
    messages = [dialogue.turns[0] for dialogue in held[:_SAMPLES]]
    replies = [] if run.reverse else sample_replies(run.out, messages, plan.seed)
    write_curve(outcome.points, run.out)
    write_card(run.out, _story(run), plan, outcome, replies)
    checkpoints.clear()
    return Finished(outcome, replies)


def _start(run: Run, plan: Plan, learnt: Sequence[tuple[list[Dialogue], float]]) -> Start:
    if (run.base is None) == (run.shape is None):
        raise ValueError("expected either a model to start from or a shape for a new one; give one of them")
    if run.base is not None:
        return from_folder(run.base, plan.dropout)
    assert run.shape is not None
    return from_shape(run.shape, _texts(learnt), run.vocab_size, plan.dropout, plan.seed, run.out)


def _texts(learnt: Sequence[tuple[list[Dialogue], float]]) -> Iterator[str]:
    return chain.from_iterable(d.turns for dialogues, weight in learnt if weight > 0 for d in dialogues)


def _pieces(run: Run, start: Start, plan: Plan, sources: Sequence[tuple[list[Dialogue], float]]) -> Pieces:
    return pieces_of(
        sources, start.encode, start.end_of_text, plan.context, reverse=run.reverse, replies_only=run.replies_only
    )


def _digest(*all_pieces: Pieces) -> str:
    total = hashlib.sha256()
    for pieces in all_pieces:
        for array in (pieces.ids, pieces.learnt, pieces.starts, pieces.weights):
            total.update(array.tobytes())
    return total.hexdigest()


def _story(run: Run) -> Story:
    data = [path.name + (f" (weight {weight:g})" if weight != 1 else "") for path, weight in run.data.files]
    base = run.base.name if run.base else f"random weights of the shape {run.shape}"
    return Story(base, data, run.licence, run.reverse)
