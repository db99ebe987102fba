"""Co-design: a phase mask and the localizer that reads its images, trained together through the differentiable microscope.

Source: Nehme, Freedman, Gordon, Ferdman, Weiss, Alalouf, Naor, Orange, Michaeli, Shechtman, Nature Methods 17 (2020) 734 (mask and network
end to end, shot noise as reparametrised normal noise). Here the network is any trainable localizer, and images are read from a stack that is
drawn anew for each mask (see `denseloc.optics.stack`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import TrainingError
from ..localize import Batch, TrainableLocalizer
from ..optics.stack import DesignedPSF
from .design_settings import DesignSettings
from .loop import Progress, Trainer, TrainingSettings
from .simulate import Simulator
from .validate import Score, score

BEGIN, END = 0.05, 0.8
"""Parts of the steps between which the mask moves: before, the network knows nothing; after, it learns the mask that stays."""


class CoDesign(Trainer):
    """Trains a localizer and a mask; the mask has a rate of its own and rests at the beginning and at the end.

    Args:
        localizer: in place; at the end it holds the averaged weights.
        simulator: draws the batches; the PSF of its microscope is ``psf``.
        training: the localizer's schedule.
        design: the mask's rate.
        psf: the microscope with the mask, which is changed in place.
        device, checkpoint, mark: as for `Trainer`.
    """

    def __init__(
        self,
        localizer: TrainableLocalizer,
        simulator: Simulator,
        training: TrainingSettings,
        design: DesignSettings,
        psf: DesignedPSF,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        mark: str = "",
    ) -> None:
        self.psf, self.design = psf, design
        super().__init__(localizer, simulator, training, device, checkpoint, mark)
        self.optimizers.append(self._mask_optimizer())

    @property
    def steps(self) -> int:
        """Planned steps."""
        return self.settings.steps

    def parts(self) -> dict[str, nn.Module]:
        """Give by name what the optimizers change and checkpoints keep."""
        return {**super().parts(), "mask": self.psf.mask}

    def run(
        self,
        report: Callable[[Progress], None] = lambda _: None,
        every: int = 50,
        stop: Callable[[], bool] = lambda: False,
        keep: Callable[[], None] = lambda: None,
        keep_every: int = 0,
    ) -> None:
        """Train as `Trainer.run`; ``keep`` is called every so many steps (0: every two minutes) and at the end.

        Raises:
            TrainingError: the loss diverged again and again, or the mask's gradient did.
        """
        shown, step = time.monotonic(), self.step

        def stopping() -> bool:
            nonlocal shown, step
            due = self.step % keep_every == 0 if keep_every else time.monotonic() - shown > 120
            if due and self.step > step:
                keep()
                shown, step = time.monotonic(), self.step
            return stop()

        super().run(report, every, stopping)
        with torch.no_grad():
            self.psf.renew()
        keep()

    def resume(self) -> bool:
        """Go on from the checkpoint if there is one."""
        taken = super().resume()
        with torch.no_grad():
            self.psf.renew()
        return taken

    def _mask_optimizer(self) -> torch.optim.Optimizer:
        mask = torch.optim.Adam(self.psf.mask.parameters(), lr=self.design.learning_rate, betas=(0.9, 0.99))
        for group in mask.param_groups:
            group["peak"], group["mask"] = group["lr"], True
        return mask

    def _rate(self, group: dict[str, Any]) -> float:
        rate = super()._rate(group)
        return rate if not group.get("mask") or self._mask_moves() else 0.0

    def _mask_moves(self) -> bool:
        return BEGIN <= self.step / self.settings.steps < END

    def _batch(self) -> Batch:
        """Draw the stack for the present mask, with gradients while the mask moves, and then frames."""
        size = self.settings.batch_size
        if not self._mask_moves():
            with torch.no_grad():
                self.psf.renew()
            return self.simulator.draw(size, self.generator)
        self._check_mask()
        self.psf.renew()
        return self.simulator.draw_differentiably(size, self.generator)

    def _check_mask(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.psf.mask.parameters()):
            raise TrainingError(f"step {self.step}: the mask is no number any more; lower design.learning_rate")

    def _validated(self) -> Score:
        """Score the averaged weights on held-out frames, drawn with the present mask."""
        with torch.no_grad():
            self.psf.renew()
        held_out = torch.Generator(self.device).manual_seed(self.settings.seed + 1)
        return score(self.averaged, [self.simulator.draw(16, held_out) for _ in range(2)])
