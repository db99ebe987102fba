"""The optimizers of a network: Muon for hidden weights, AdamW for the rest."""

from __future__ import annotations

import torch

from ..localize import TrainableLocalizer
from .muon import Muon


def network_optimizers(
    localizer: TrainableLocalizer, learning_rate: float, muon_rate: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Make the optimizers; each group keeps its largest rate as ``peak``.

    Args:
        localizer: whose weights are to learn.
        learning_rate: of AdamW.
        muon_rate: of Muon; 0 for AdamW alone.
        weight_decay: of both.
    """
    hidden = localizer.hidden_weights() if muon_rate else []
    taken = {id(weight) for weight in hidden}
    rest = [weight for weight in localizer.parameters() if id(weight) not in taken]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=learning_rate, weight_decay=weight_decay)]
    if hidden:
        optimizers.append(Muon(hidden, lr=muon_rate, weight_decay=weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
