"""Which update does each weight get?"""

from __future__ import annotations

import torch
from torch import nn

from .plan import Plan


def optimisers(model: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the matrices inside the blocks and AdamW for embeddings, norms and biases.

    Their `lr` is the plan's peak; `set_rate` scales it. Weights of one dimension are not decayed.
    """
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [w for name, w in trained if plan.optimiser == "muon" and w.ndim == 2 and ".h." in f".{name}"]
    rest = [w for _, w in trained if not any(w is matrix for matrix in matrices)]
    groups = [
        {"params": [w for w in rest if w.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [w for w in rest if w.ndim < 2], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.learning_rate, betas=(0.9, 0.95))
    ]
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=plan.weight_decay, momentum=0.95))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return made


def set_rate(made: list[torch.optim.Optimizer], factor: float) -> None:
    """The learning rates of this update."""
    for optimiser in made:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
