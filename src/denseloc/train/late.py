"""The late part of a training: weights that can only be learned when all others stand, as those of a network that judges another one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import nn

from .loop import Progress, Trainer

SHARE = 0.2
"""Late steps to a step of the training; each costs a forward pass, so that all take some percent of the time."""
SEED = 500
"""Added to the seed of the training for frames that it never saw."""


def learn_late(
    trainer: Trainer,
    report: Callable[[Progress], None] = lambda _: None,
    every: int = 50,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the late weights of a localizer whose other weights stand, by Adam with a rate that falls along a cosine.

    It depends on the finished weights and the seed only: interrupted, it begins anew with equal result.

    Args:
        trainer: finished.
        report: told how it goes, with steps counted anew.
        every: steps from report to report.
        stop: asked before each step.

    Returns:
        False if ``stop`` ended it; the late weights are as they were then.
    """
    localizer, settings = trainer.localizer, trainer.settings
    weights = localizer.late_weights()
    if not weights:
        return True
    before = [weight.detach().clone() for weight in weights]
    localizer.eval()
    generator = torch.Generator(trainer.device).manual_seed(settings.seed + SEED)
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    steps, started, loss = max(1, round(SHARE * settings.steps)), time.monotonic(), math.nan
    for step in range(steps):
        if stop():
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)
            return False
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = _step(trainer, optimizer, weights, generator, loss)
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds = time.monotonic() - started
            report(Progress(step + 1, steps, loss, trainer.score, seconds, 0.0))
    trainer.seconds += time.monotonic() - started
    return True


def _step(
    trainer: Trainer, optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], generator: torch.Generator, mean: float
) -> float:
    """Take one step; gives the running mean of the loss. A step whose loss or gradient is no number does not count."""
    value = trainer.localizer.late_loss(trainer.simulator.draw(trainer.settings.batch_size, generator))
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    norm = float(nn.utils.clip_grad_norm_(weights, 1.0))
    if not math.isfinite(value.item()) or not math.isfinite(norm):
        return mean
    optimizer.step()
    return value.item() if math.isnan(mean) else 0.98 * mean + 0.02 * value.item()
