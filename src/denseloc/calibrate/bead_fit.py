"""The likelihood of beads under a PSF, and its ascent over the PSF and the beads at once.

Source: Speiser et al. 2019, section 1.3: a bead's x and y are shared over its stack, z is the stage; shape parameters and maps are found by
gradient ascent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..optics import PSF
from .beads import Bead
from .stack import BeadStack

LARGEST_STEP = 1500  # patches in a gradient step
SHAPE_PENALTY = {"maps": 30.0}
"""Weight of the squares of what should be small, per kind of parameter."""
LEAST_BLUR_NM = 0.1
"""No light is this sharp, and at 0 a blur, the root of a sum of squares, has no slope by which a fit could leave it."""


class BeadPatches:
    """Every bead in every plane of its stack.

    Attributes:
        values: (n, planes, k, k) photons.
        bead: (n,) number of the bead.
        z_nm: (n,) position of the stage.
        noise: (n, 1, k, k) read noise, photons^2.
    """

    def __init__(self, stacks: Sequence[BeadStack], beads: Sequence[Bead], roi_px: int) -> None:
        half = roi_px // 2
        values, numbers, depths, noise = [], [], [], []
        for number, bead in enumerate(beads):
            stack = stacks[bead.stack]
            rows = slice(bead.row - half, bead.row + half + 1)
            columns = slice(bead.column - half, bead.column + half + 1)
            n = len(stack.z_nm)
            values.append(stack.photons[:, :, rows, columns])
            numbers.append(torch.full((n,), number))
            depths.append(torch.from_numpy(np.asarray(stack.z_nm, np.float32)))
            noise.append(stack.noise_variance[rows, columns].expand(n, 1, -1, -1))
        self.values, self.bead = torch.cat(values), torch.cat(numbers)
        self.z_nm, self.noise = torch.cat(depths), torch.cat(noise)
        self.excess = torch.tensor([stacks[bead.stack].excess for bead in beads])
        self.n_beads, self.roi_px = len(beads), roi_px

    def crop(self, roi_px: int) -> BeadPatches:
        """Give the middle ``roi_px`` pixels of each patch."""
        cut = (self.roi_px - roi_px) // 2
        if cut == 0:
            return self
        middle = slice(cut, self.roi_px - cut)
        chosen = self.select(torch.ones(len(self.bead), dtype=torch.bool))
        chosen.values, chosen.noise = chosen.values[..., middle, middle], chosen.noise[..., middle, middle]
        chosen.roi_px = roi_px
        return chosen

    def select(self, keep: Tensor) -> BeadPatches:
        """Give the patches that are True in ``keep``; the beads keep their numbers."""
        chosen = object.__new__(BeadPatches)
        chosen.__dict__ |= self.__dict__
        chosen.values, chosen.bead, chosen.z_nm, chosen.noise = (t[keep] for t in (self.values, self.bead, self.z_nm, self.noise))
        return chosen


class BeadFit:
    """Places, heights and photons of the beads, fitted together with a PSF.

    Attributes:
        offset_px: (beads, 2) x and y from the middle pixel.
        height_nm: (beads,) as fitted; see `heights`.
        log_photons: (beads,).
        background: (beads, planes) photons per pixel.
        defines_zero: whether z = 0 of the PSF is that of these beads on average; False for beads to which the PSF was not fitted.
    """

    def __init__(self, patches: BeadPatches, *, defines_zero: bool = True) -> None:
        self.patches, self.defines_zero = patches, defines_zero
        values, k, beads = patches.values, patches.roi_px, patches.n_beads
        rim = torch.ones(k, k, dtype=torch.bool)
        rim[2:-2, 2:-2] = False
        level = values[:, :, rim].median(-1).values
        self.background = torch.stack([level[patches.bead == b].median(0).values for b in range(beads)])
        light = (values - self.background[patches.bead][:, :, None, None]).sum((1, 2, 3))
        photons = torch.stack([light[patches.bead == b].median() for b in range(beads)])
        self.log_photons = photons.clamp(min=1.0).log()
        self.offset_px = self._centroids()
        self.height_nm = torch.zeros(beads)

    @property
    def heights(self) -> Tensor:
        """(beads,) nm that each bead lies above the zero of the stage."""
        return self.height_nm - self.height_nm.mean() if self.defines_zero else self.height_nm

    def _centroids(self) -> Tensor:
        k = self.patches.roi_px
        at = torch.arange(k, dtype=torch.float32) - k // 2
        near = at**2 + at[:, None] ** 2 < (k / 3) ** 2
        places = []
        for b in range(self.patches.n_beads):
            light = (self.patches.values[self.patches.bead == b] - self.background[b][:, None, None]).mean((0, 1)).clamp(
                min=0
            ) * near
            total = light.sum().clamp(min=1e-9)
            places.append(torch.stack([(light.sum(0) * at).sum() / total, (light.sum(1) * at).sum() / total]))
        return torch.stack(places)

    def model(self, psf: PSF, patches: BeadPatches | None = None) -> Tensor:
        """Expected photons (n, planes, k, k)."""
        p = patches or self.patches
        # a bead may lie off the middle pixel; it is drawn about its own pixel, where the PSF is known, and moved
        whole = self.offset_px.detach().round()
        shape = psf((self.offset_px - whole)[p.bead], p.z_nm + self.heights[p.bead])
        for b in torch.nonzero(whole.any(1)).flatten().tolist():
            x, y = (int(v) for v in whole[b])
            moved = torch.roll(shape, (y, x), (2, 3))
            shape = torch.where((p.bead == b)[:, None, None, None], moved, shape)
        return self.background[p.bead][:, :, None, None] + self.log_photons.exp()[p.bead][:, None, None, None] * shape

    def squares(self, psf: PSF, patches: BeadPatches | None = None) -> Tensor:
        """Squared residuals in units of the expected variance, (n, planes, k, k)."""
        p = patches or self.patches
        model = self.model(psf, p)
        excess = p.excess[p.bead][:, None, None, None]
        variance = (excess * model.detach().clamp(min=0.5) + p.noise).clamp(min=1e-3)
        return (p.values - model) ** 2 / variance

    def run(
        self, psf: PSF, steps: int, rate: float, *, shape: bool = True, heights: bool = False, at_once: int = LARGEST_STEP
    ) -> float:
        """Ascend.

        Args:
            psf: changed in place where ``shape`` is True.
            steps: gradient steps.
            rate: first step size, relative to each parameter's usual size.
            shape: fit the PSF, not the beads alone.
            heights: fit the beads' heights.
            at_once: patches that one step looks at.

        Returns:
            chi2 per pixel of all patches.
        """
        self._free(True, heights)
        groups = self._groups(rate, heights) + (_shape_groups(psf, rate) if shape else [])
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * i / steps)))
        draw = torch.Generator().manual_seed(0)
        for _ in range(steps):
            loss = self.squares(psf, self._some(at_once, draw)).mean()
            for name, value in psf.named_parameters():
                if shape and name in SHAPE_PENALTY:
                    loss = loss + SHAPE_PENALTY[name] * value.square().sum((-1, -2)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            psf.keep_possible()
            _keep_blurred(psf)
        self._free(False, heights)
        return float(self.chi2_of_beads(psf).mean())

    def _free(self, free: bool, heights: bool) -> None:
        for value in (self.offset_px, self.log_photons, self.background, *((self.height_nm,) if heights else ())):
            value.requires_grad_(free)

    def _groups(self, rate: float, heights: bool) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": [self.offset_px], "lr": rate}, {"params": [self.log_photons], "lr": rate}]
        groups.append({"params": [self.background], "lr": rate * float(self.background.detach().abs().mean().clamp(min=1))})
        return groups + ([{"params": [self.height_nm], "lr": rate * 100}] if heights else [])

    def _some(self, at_once: int, generator: torch.Generator) -> BeadPatches:
        n = len(self.patches.values)
        if n <= at_once:
            return self.patches
        keep = torch.zeros(n, dtype=torch.bool)
        keep[torch.randperm(n, generator=generator)[:at_once]] = True
        return self.patches.select(keep)

    @torch.no_grad()
    def chi2_of_beads(self, psf: PSF) -> Tensor:
        """Chi2 per pixel of each bead, (beads,)."""
        each = self.squares(psf).mean((1, 2, 3))
        return torch.stack([each[self.patches.bead == b].mean() for b in range(self.patches.n_beads)])

    @torch.no_grad()
    def residual(self, psf: PSF) -> np.ndarray:
        """Mean residual over the beads as a fraction of their photons, (depths, planes, k, k), depths as in `depths`."""
        p = self.patches
        part = (p.values - self.model(psf)) / self.log_photons.exp()[p.bead][:, None, None, None]
        return np.stack([part[p.z_nm == z].mean(0).numpy() for z in self.depths()])

    def depths(self) -> np.ndarray:
        """Positions of the stage, each once, rising."""
        return np.unique(self.patches.z_nm.numpy())


@torch.no_grad()
def _keep_blurred(psf: PSF) -> None:
    for name, value in psf.named_parameters():
        if name == "blur_nm":
            value.clamp_(min=LEAST_BLUR_NM)


def _shape_groups(psf: PSF, rate: float) -> list[dict[str, Any]]:
    """Step sizes of the PSF's own parameters: relative to their size, to the peak for pixel maps and splines."""
    groups = []
    for name, value in psf.named_parameters():
        if name == "angle_deg" and float(value.detach()) == 0:  # axes along the pixels stay so, which is also far quicker
            value.requires_grad_(False)
        if not value.requires_grad:
            continue
        size = float(value.detach().abs().max())
        how = {"maps": 0.1, "coefficients": 0.1 * size, "zernike_nm": 30.0, "blur_nm": 30.0, "phase": 3.0}.get(name, max(1.0, size))
        groups.append({"params": [value], "lr": rate * how})
    return groups
