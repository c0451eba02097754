"""How does a model learn? One loop over packed rows, which can be killed at any moment and goes on to the same weights.

Everything that an update depends on is a function of the plan, the data and the number of the update: the rows, the
learning rate, and the random numbers of dropout. So the state to be saved is the weights, the optimisers and the
history, and a run that was interrupted ends in the bits of one that was not (on the same machine, with the same
number of threads and processes).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from .checkpoints import Checkpoints
from .dataset import IGNORED, Pieces, Row, endless_rows, row_of
from .optimisers import optimisers, set_rate
from .plan import Plan


@dataclass(frozen=True)
class Point:
    """One evaluation: losses in nats a token, `valid` on held-out dialogues."""

    step: int
    tokens: int
    train_loss: float
    valid_loss: float
    seconds: float


@dataclass
class Progress:
    """Where a run is. `tokens_per_s` since it was last reported."""

    step: int
    steps: int
    loss: float
    tokens_per_s: float
    points: list[Point] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        """At the speed of the last updates."""
        return self._left if math.isfinite(self._left) else 0.0

    _left: float = math.inf


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """A finished run: perplexities on held-out dialogues before and after, and the curve."""

    before: float
    after: float
    points: list[Point]
    steps: int
    stopped_early: bool


def precision_of(plan: Plan) -> str:
    """accelerate's name: bf16 where the machine multiplies in it, else no."""
    if plan.precision == "auto":
        fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
        return "bf16" if fast else "no"
    return "bf16" if plan.precision == "bf16" else "no"


def train(
    model: nn.Module,
    pieces: Pieces,
    valid: Pieces,
    plan: Plan,
    checkpoints: Checkpoints,
    report: Report,
    accelerator: Accelerator | None = None,
) -> Outcome:
    """Train `model` in place. `model(input_ids=, position_ids=, attention_mask=)` gives `.logits` (B, T, V).

    At the end it holds the weights of the best evaluation where the plan has patience, and the average where it has
    an `ema`. OSError when a checkpoint cannot be written; the one before it is whole.
    """
    return _Run(model, pieces, valid, plan, checkpoints, report, accelerator or Accelerator()).to_the_end()


class _Run:
    def __init__(
        self,
        model: nn.Module,
        pieces: Pieces,
        valid: Pieces,
        plan: Plan,
        checkpoints: Checkpoints,
        report: Report,
        accelerator: Accelerator,
    ) -> None:
        if plan.rows % (plan.accumulate * accelerator.num_processes):
            raise ValueError(
                f"batch_tokens: expected a multiple of context × accumulate × processes, found {plan.rows} rows "
                f"for {accelerator.num_processes} processes; change batch_tokens"
            )
        self.plan, self.pieces, self.valid = plan, pieces, valid
        self.checkpoints, self.report, self.accelerator = checkpoints, report, accelerator
        self.plain = model
        made = optimisers(model, plan)
        self.model, *self.optimisers = accelerator.prepare(model, *made)
        self.average = {name: w.detach().float().clone() for name, w in self._weights()} if plan.ema else {}
        self.step, self.tokens = 0, 0
        self.points: list[Point] = []
        self.before = math.nan
        self.best: tuple[float, dict[str, torch.Tensor]] | None = None
        self.begun = time.monotonic()
        self.recent = math.nan

    def to_the_end(self) -> Outcome:
        saved = self.checkpoints.load()
        if saved is None:
            self.before = self._evaluate()
        else:
            self._restore(saved.state)
        rows = self._my_rows(skip=self.step * self.plan.rows)
        stopped = self._settled()
        while self.step < self.plan.steps and not stopped:
            self._update(list(islice(rows, self.plan.rows // self.accelerator.num_processes)))
            if self.step % self.plan.evaluate_every == 0 or self.step == self.plan.steps:
                self._note(self._evaluate())
                stopped = self._settled()
            if self.step % self.plan.save_every == 0 or self.step == self.plan.steps or stopped:
                self._save()
        self._load_weights(self.best[1] if self.plan.patience and self.best else self._kept())
        after = self.best[0] if self.plan.patience and self.best else self.points[-1].valid_loss
        return Outcome(math.exp(self.before), math.exp(after), self.points, self.step, stopped)

    # One update

    def _my_rows(self, skip: int) -> Iterator[Row]:
        """Of each update's rows, every process reads its share."""
        every = endless_rows(self.pieces, self.plan.context, self.plan.seed, skip)
        return islice(every, self.accelerator.process_index, None, self.accelerator.num_processes)

    def _update(self, rows: list[Row]) -> None:
        begin = time.monotonic()
        torch.manual_seed((self.plan.seed << 20) + self.step * self.accelerator.num_processes
                          + self.accelerator.process_index)  # fmt: skip
        self.model.train()
        set_rate(self.optimisers, self.plan.rate(self.step))
        learnt = torch.tensor(sum(int((row.targets != IGNORED).sum()) for row in rows))
        everywhere = int(self.accelerator.reduce(learnt.to(self.accelerator.device), "sum"))
        micro = len(rows) // self.plan.accumulate
        total = 0.0
        for part in range(self.plan.accumulate):
            some = rows[part * micro : (part + 1) * micro]
            last = part == self.plan.accumulate - 1
            with self.accelerator.no_sync(self.model) if not last else nullcontext():
                loss = self._loss(some)
                # The mean over all tokens of the update, whatever the number of parts and processes.
                scale = self.accelerator.num_processes / max(everywhere, 1)
                self.accelerator.backward(loss * scale)
            total += float(loss.detach())
        if self.plan.clip:
            self.accelerator.clip_grad_norm_(self.plain.parameters(), self.plan.clip)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for name, weight in self._weights() if self.average else ():
            self.average[name].lerp_(weight.detach().float(), 1 - self.plan.ema)
        self.step += 1
        self.tokens += everywhere
        mean = total / max(int(learnt), 1)
        self.recent = mean if math.isnan(self.recent) else self.recent + (mean - self.recent) / 20
        self._tell(everywhere / max(time.monotonic() - begin, 1e-9), time.monotonic() - begin)

    def _loss(self, rows: list[Row]) -> torch.Tensor:
        """The sum of -log P over what is to be learnt."""
        batch = _batch(rows, self.accelerator.device)
        with self.accelerator.autocast():
            logits = self.model(
                input_ids=batch["ids"], position_ids=batch["positions"], attention_mask=batch["mask"], use_cache=False
            ).logits
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1), batch["targets"].flatten(), ignore_index=IGNORED, reduction="sum"
        )

    # Evaluation

    @torch.no_grad()
    def _evaluate(self) -> float:
        """Mean -log P per token of the held-out dialogues, by the weights that would be kept now."""
        held = {name: w.detach().clone() for name, w in self._weights()} if self.average else {}
        if self.average:
            self._load_weights(self.average)
        self.model.eval()
        members = _in_order(self.valid, self.plan.context)
        total, count = 0.0, 0
        for at in range(0, len(members), self.plan.rows):
            rows = [row_of(self.valid, m, self.plan.context) for m in members[at : at + self.plan.rows]]
            total += float(self._loss(rows))
            count += sum(int((row.targets != IGNORED).sum()) for row in rows)
        if held:
            self._load_weights(held)
        return total / max(count, 1)

    def _note(self, valid: float) -> None:
        self.points.append(Point(self.step, self.tokens, self.recent, valid, time.monotonic() - self.begun))
        if self.plan.patience and (self.best is None or valid < self.best[0]):
            self.best = valid, {name: w.detach().clone().cpu() for name, w in self._kept().items()}

    def _settled(self) -> bool:
        """Has there been no better evaluation for as long as the plan's patience?"""
        if not self.plan.patience or len(self.points) <= self.plan.patience:
            return False
        recent = min(point.valid_loss for point in self.points[-self.plan.patience :])
        return recent >= min(point.valid_loss for point in self.points[: -self.plan.patience])

    def _tell(self, tokens_per_s: float, seconds: float) -> None:
        progress = Progress(self.step, self.plan.steps, self.recent, tokens_per_s, self.points)
        progress._left = seconds * (self.plan.steps - self.step)
        self.report(progress)

    # State

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, w) for name, w in self.plain.named_parameters() if w.requires_grad)

    def _kept(self) -> dict[str, torch.Tensor]:
        return self.average or {name: w.detach() for name, w in self._weights()}

    @torch.no_grad()
    def _load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        for name, weight in self._weights():
            weight.copy_(weights[name])

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "weights": {name: w.detach().cpu() for name, w in self._weights()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average,
            "best": self.best,
            "points": [asdict(point) for point in self.points],
            "tokens": self.tokens,
            "before": self.before,
            "recent": self.recent,
            "seconds": time.monotonic() - self.begun,
        }
        self.checkpoints.save(self.step, state)

    def _restore(self, state: dict[str, Any]) -> None:
        self._load_weights(state["weights"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.average = {name: w.to(self.accelerator.device) for name, w in state["average"].items()}
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
        self.points = [Point(**point) for point in state["points"]]
        self.step, self.tokens, self.before = state["step"], state["tokens"], state["before"]
        self.recent = state["recent"]
        self.begun = time.monotonic() - state["seconds"]


def _in_order(pieces: Pieces, context: int) -> list[list[int]]:
    """Every piece once, side by side as they come."""
    rows: list[list[int]] = [[]]
    room = context
    for index, length in enumerate(np.diff(pieces.starts).tolist()):
        if length > room:
            rows.append([])
            room = context
        rows[-1].append(index)
        room -= length
    return rows


def _batch(rows: list[Row], device: torch.device) -> dict[str, torch.Tensor]:
    """Tensors (B, T), and the mask (B, 1, T, T): what is before it in its own piece."""

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(row, name) for row in rows])).long().to(device)

    pieces = stacked("pieces")  # (B, T)
    T = pieces.shape[1]
    causal = torch.ones(T, T, dtype=torch.bool, device=device).tril()
    mask = (pieces[:, :, None] == pieces[:, None, :]) & causal  # (B, T, T)
    return {
        "ids": stacked("ids"),
        "targets": stacked("targets"),
        "positions": stacked("positions"),
        "mask": mask[:, None],
    }
