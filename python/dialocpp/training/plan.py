"""What does a run of training do, in numbers? All of it fixed before the first step, and the same after a restart."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Plan:
    """One run. ValueError for a number out of range.

    `steps`: updates of the weights. `batch_tokens`: positions in one update, over all processes and accumulations.
    `schedule`: `cosine` falls from the peak to a tenth; `wsd` stays at the peak and falls linearly to a twentieth in
    the last `decay` of the run (Hu et al. 2024, arXiv:2404.06395). `optimiser`: `adamw`, or `muon` for the matrices
    inside the blocks and AdamW for the rest (Jordan et al. 2024). `ema`: decay of the average of the weights that is
    kept in the end; 0: the weights themselves. `patience`: evaluations without a better one before the run ends; 0:
    it runs to its end.
    """

    steps: int
    context: int = 256
    batch_tokens: int = 8192
    accumulate: int = 1
    learning_rate: float = 3e-4
    matrix_rate: float = 0.02
    schedule: Literal["cosine", "wsd"] = "cosine"
    warm_up: float = 0.05
    decay: float = 0.2
    weight_decay: float = 0.05
    optimiser: Literal["adamw", "muon"] = "adamw"
    clip: float = 1.0
    ema: float = 0.0
    dropout: float = 0.0
    evaluate_every: int = 200
    save_every: int = 200
    patience: int = 0
    seed: int = 0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        least: dict[str, float] = {
            "steps": 1, "context": 2, "batch_tokens": 2, "accumulate": 1, "evaluate_every": 1, "save_every": 1,
            "patience": 0, "learning_rate": 0, "matrix_rate": 0, "weight_decay": 0, "clip": 0, "dropout": 0, "ema": 0,
            "warm_up": 0, "decay": 0,
        }  # fmt: skip
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name}: expected {low} or more, found {getattr(self, name)}")
        for name in ("ema", "dropout", "warm_up", "decay"):
            if getattr(self, name) >= 1:
                raise ValueError(f"{name}: expected less than 1, found {getattr(self, name)}")
        if self.batch_tokens < self.context * self.accumulate:
            raise ValueError(
                f"batch_tokens: expected {self.context * self.accumulate} or more (context × accumulate), "
                f"found {self.batch_tokens}"
            )

    @property
    def rows(self) -> int:
        """Rows of one update, a multiple of `accumulate`."""
        return max(1, self.batch_tokens // (self.context * self.accumulate)) * self.accumulate

    def rate(self, step: int) -> float:
        """The factor on the peak learning rates in update `step`, from 0."""
        done = (step + 1) / self.steps
        warm = min(1.0, done / self.warm_up) if self.warm_up else 1.0
        if self.schedule == "cosine":
            return warm * (0.55 + 0.45 * math.cos(math.pi * done))
        left = (1 - done) / self.decay if self.decay else 1.0
        return warm * max(0.05, min(1.0, left))

    def digest(self, **more: Any) -> str:
        """Names this run: a checkpoint of another plan or other data is not gone on with."""
        fields = dataclasses.asdict(self) | more
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
