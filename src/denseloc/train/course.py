"""What surrounds the steps of every training: the looks before the first one, and what follows the last one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..localize import TrainableLocalizer
from ..machine import free_bytes
from .late import learn_late
from .loop import Progress, Trainer, TrainingSettings
from .recalibrate import HELD_OUT, MOST_BATCHES, recalibrate

STEPS_PER_BATCH = 20
"""Steps of the training for each batch to correct by: the correction costs a few percent of the training at most."""


def make_ready(localizer: TrainableLocalizer, settings: TrainingSettings, device: torch.device, goes_on: bool) -> None:
    """Check that a training fits into memory, and let the localizer take up the weights that its section names.

    Args:
        localizer: changed in place.
        settings: the schedule.
        device: where it will be trained.
        goes_on: whether a checkpoint holds its weights.

    Raises:
        TrainingError: memory does not suffice.
        ModelError: the weights do not fit.
    """
    frames, side = settings.batch_size * settings.frames, settings.patch_px
    localizer.check_fits(free_bytes(device), frames, (side, side), training=True)
    if not goes_on:
        localizer.take_first_weights()


def complete(
    trainer: Trainer, report: Callable[[Progress], None] = lambda _: None, stop: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Train the late weights after the last step, and correct the uncertainties by the truth of other simulations.

    Args:
        trainer: has run; its localizer gets late weights and correction.
        report: told how it goes.
        stop: asked before each late step.

    Returns:
        What was found of the uncertainties, for the record; None for a training that was stopped, before its last step or after.
    """
    if trainer.step < trainer.settings.steps or not learn_late(trainer, report, stop=stop):
        return None
    batches = min(MOST_BATCHES, max(1, trainer.settings.steps // STEPS_PER_BATCH))
    found = recalibrate(trainer.localizer, trainer.simulator, trainer.settings.seed + HELD_OUT, batches=batches)
    trainer.localizer.correction = found.correction
    return found.to_json()
