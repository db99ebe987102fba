"""Design of a phase mask by Fisher information: the least Cramer-Rao bound of one emitter's position over a range of depths.

Source: Shechtman, Sahl, Backer, Moerner, Phys. Rev. Lett. 113 (2014) 133902 (the criterion, by which the Tetrapod was found).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..optics.stack import StackPSF
from .checkpoint import load_checkpoint, save_checkpoint
from .design_settings import STEPS, DesignSettings
from .loop import Progress

LEAST_DEPTHS = 16
SHARPNESS = 12.0
"""Exponent of the mean that stands for the maximum over the depths."""
RIDGE = 1e-6
"""Added to the scaled information matrix, so that a depth that cannot be told costs much but not everything."""
WARMUP = 0.05


@dataclass(frozen=True)
class Light:
    """What the emitter of a design by Fisher information shines with, and behind which camera.

    Args:
        photons: of the emitter.
        background: photons per pixel.
        excess: variance of the shot noise per photon.
        noise_variance: of the camera's own noise, photons^2.
    """

    photons: float
    background: float
    excess: float = 1.0
    noise_variance: float = 0.0


def bounds_nm(psf: StackPSF, offset_px: Tensor, z_nm: Tensor, light: Light) -> Tensor:
    """Give the least standard deviations (n, 3) of x, y and z in nm, photons and background being unknown too; differentiable in the mask.

    Args:
        psf: the microscope with its mask.
        offset_px: (n, 2) places of the emitter in its pixel.
        z_nm: (n,) depths.
        light: photons, background, noise.
    """
    values, slopes = psf.with_slopes(offset_px, z_nm)
    y_nm, x_nm = psf.pixel_size_nm
    per_nm = light.photons * slopes / slopes.new_tensor((x_nm, y_nm, 1.0))[:, None, None, None]
    mean = light.photons * values + light.background
    jacobian = torch.cat((per_nm, values[:, None], torch.ones_like(values)[:, None]), 1).flatten(2).double()
    variance = (light.excess * mean + light.noise_variance).clamp(min=1e-3).flatten(1).double()
    fisher = torch.einsum("npk,nqk,nk->npq", jacobian, jacobian, 1 / variance)
    scale = fisher.diagonal(dim1=1, dim2=2).clamp(min=1e-30).rsqrt()
    even = fisher * scale[:, :, None] * scale[:, None, :] + RIDGE * torch.eye(5, dtype=fisher.dtype, device=fisher.device)
    spread = torch.linalg.inv(even).diagonal(dim1=1, dim2=2).clamp(min=0).sqrt() * scale
    return spread[:, :3].to(z_nm.dtype)


class FisherDesign:
    """Moves a mask to the least bound, by Adam; each step looks at other depths and places in the pixel.

    Args:
        psf: the microscope with the mask, which is changed in place.
        settings: the section ``[design]``.
        light: of the emitter.
        checkpoint: file for stopping and going on; None for none.
        mark: identity of the document; a checkpoint of another mark is refused.
    """

    def __init__(
        self, psf: StackPSF, settings: DesignSettings, light: Light, checkpoint: Path | None = None, mark: str = ""
    ) -> None:
        self.psf, self.settings, self.light, self.checkpoint, self.mark = psf, settings, light, checkpoint, mark
        self.steps = settings.steps or STEPS
        self.device = psf.depths_nm.device
        self.generator = torch.Generator(self.device).manual_seed(settings.seed + 1)
        self.optimizers = [torch.optim.Adam(psf.mask.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))]
        self.step, self.rate, self.seconds, self.simulating, self.rollbacks = 0, 1.0, 0.0, 0.0, 0
        self.loss, self.norm = math.nan, math.nan
        self.history: list[dict[str, Any]] = []

    def parts(self) -> dict[str, nn.Module]:
        """Give by name what the optimizer changes and checkpoints keep."""
        return {"mask": self.psf.mask}

    def run(
        self,
        report: Callable[[Progress], None] = lambda _: None,
        every: int = 10,
        stop: Callable[[], bool] = lambda: False,
        keep: Callable[[], None] = lambda: None,
        keep_every: int = 0,
    ) -> None:
        """Take the planned steps, or those until ``stop`` says so.

        Args:
            report: told every so many steps how it goes.
            every: steps between reports.
            stop: asked before each step.
            keep: called after each checkpoint.
            keep_every: steps between checkpoints, 0 for one a minute and at the end.

        Raises:
            TrainingError: the bound is not a number any more.
        """
        saved = time.monotonic()
        while self.step < self.steps and not stop():
            started = time.monotonic()
            self._take_step()
            self.seconds += time.monotonic() - started
            if self.step % every == 0 or self.step == self.steps:
                self.history.append({"step": self.step, "bound_nm": round(self.loss, 3), "seconds": round(self.seconds, 1)})
                report(Progress(self.step, self.steps, self.loss, None, self.seconds, 0.0))
            due = self.step % keep_every == 0 if keep_every else time.monotonic() - saved > 60
            if due and self.step < self.steps:
                self.save()
                keep()
                saved = time.monotonic()
        with torch.no_grad():
            self.psf.renew()
        self.save()
        keep()

    def _take_step(self) -> None:
        for group in self.optimizers[0].param_groups:
            group["lr"] = self.settings.learning_rate * self._schedule()
        self.psf.renew()
        loss = self._objective(bounds_nm(self.psf, *self._places(), self.light))
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = loss.item()
        if not math.isfinite(value) or not all(
            torch.isfinite(p.grad).all() for p in self.psf.mask.parameters() if p.grad is not None
        ):
            raise TrainingError(
                f"step {self.step}: the bound became {value:g}; lower design.learning_rate, or check photons, background and z range"
            )
        self.optimizers[0].step()
        self.step += 1
        self.loss = value if math.isnan(self.loss) else 0.9 * self.loss + 0.1 * value

    def _objective(self, bounds: Tensor) -> Tensor:
        """Join the bounds (n, 3) of x, y, z at n depths: their mean, or nearly the largest mean of a depth."""
        per_depth = bounds.mean(1)
        if self.settings.over_z == "mean":
            return per_depth.mean()
        return per_depth.pow(SHARPNESS).mean().pow(1 / SHARPNESS)

    def _places(self) -> tuple[Tensor, Tensor]:
        """Draw places in the pixel, and one depth from each of equal parts of the range."""
        assert self.psf.z_range_nm is not None
        n = max(LEAST_DEPTHS, len(self.psf.depths_nm) - 1)
        offset, within = (torch.rand(n, k, generator=self.generator, device=self.device) for k in (2, 1))
        low, high = self.psf.z_range_nm
        part = (torch.arange(n, device=self.device) + within[:, 0]) / n
        return offset - 0.5, low + (high - low) * part

    def _schedule(self) -> float:
        """Rise linearly, then fall along a cosine to 2 %."""
        done = self.step / self.steps
        if done < WARMUP:
            return (self.step + 1) / (WARMUP * self.steps + 1)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, self)

    def resume(self) -> bool:
        """Go on from the checkpoint if there is one; the continued design equals the uninterrupted one."""
        taken = self.checkpoint is not None and load_checkpoint(self.checkpoint, self)
        with torch.no_grad():
            self.psf.renew()
        return taken
