"""Where fits begin: depths that tell the shapes of a PSF apart, and matched-filter estimates of position, photons and background."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.spot_score import naive
from ..optics import PSF
from .drawing import number_type

ALIKE = 0.94
"""Correlation of two images from which on a fit that begins with one finds the other."""

MOST_STARTS = 16
REACH_PX = 1.5  # moments are not believed further than this


@torch.no_grad()
def depth_starts(psf: PSF, z_range_nm: tuple[float, float], steps: int = 61) -> Tensor:
    """Choose depths so that the image at any depth of the range is like that at one of them.

    One by one, the depth whose image is least like those of the chosen ones; an astigmatic PSF takes about three over its range, a double
    helix as many as its turn asks for.

    Returns:
        (s,) depths in rising order, 1 <= s <= 16.
    """
    depths = torch.linspace(*z_range_nm, steps)
    z = depths.to(number_type(psf))
    images = psf(z.new_zeros(steps, 2), z).flatten(1)
    images = images / images.norm(dim=1, keepdim=True)
    alike = (images @ images.T).cpu()
    chosen = [steps // 2]
    while len(chosen) < MOST_STARTS:
        covered = alike[chosen].amax(0)
        if covered.min() >= ALIKE:
            break
        chosen.append(int(covered.argmin()))
    return depths[sorted(chosen)]


@torch.no_grad()
def by_moments(psf: PSF, photons: Tensor, depths_nm: Tensor) -> Tensor:
    """Estimate positions in windows with the images at some depths as masks.

    The light under a mask of the emitter's own shape has its centre half as far from the mask's as the emitter (exactly so for Gaussians).

    Args:
        psf: as `drawing.frozen` gives it.
        photons: (n, planes, h, w); NaN where there is no pixel.
        depths_nm: (s,).

    Returns:
        (n, s, 2) x, y in px of the window.
    """
    shape = (photons.shape[-2], photons.shape[-1])
    middle = torch.tensor([(shape[0] - 1) // 2], device=photons.device), torch.tensor([(shape[1] - 1) // 2], device=photons.device)
    level = photons.nanmean((2, 3), keepdim=True)
    above = torch.where(torch.isnan(photons), torch.zeros_like(photons), photons - level).flatten(1)
    row, column = (torch.arange(side, device=photons.device) - at for side, at in zip(shape, middle, strict=True))
    places = []
    for depth in depths_nm.to(number_type(psf)):
        drawn = naive.placed(psf(depth.new_zeros(1, 2), depth[None]), *middle, shape)[0].to(photons)
        contrast = drawn - drawn.mean((1, 2), keepdim=True)
        bright = (above * contrast.flatten()).sum(1) / contrast.square().sum()
        spare = drawn.mean((1, 2), keepdim=True)  # the mean over a window is background and the emitter's own light
        total = (above * drawn.flatten()).sum(1) + bright * (drawn * spare).sum()
        centres = []
        for places_px in (column[None, None, :], row[None, :, None]):
            mask = drawn * places_px
            moment = ((above * mask.flatten()).sum(1) + bright * (mask * spare).sum()) / total
            centres.append(2 * (moment - (drawn * mask).sum() / drawn.square().sum()))
        shift = torch.stack(centres, 1)
        shift = torch.where((total > 0)[:, None] & torch.isfinite(shift), shift, torch.zeros_like(shift))
        places.append(shift.clamp(-REACH_PX, REACH_PX) + torch.cat(middle).flip(0))
    return torch.stack(places, 1)


def by_least_squares(fractions: Tensor, photons: Tensor, shared: bool) -> tuple[Tensor, Tensor]:
    """Estimate photons and backgrounds of spots whose shape is known.

    Args:
        fractions: (n, planes, h, w) of the spots' photons.
        photons: (n, planes, h, w); NaN where there is no pixel.
        shared: whether all planes have one background.

    Returns:
        photons (n,), at least 1, and background (n, planes) or (n, 1), at least 0.
    """
    axes = (1, 2, 3) if shared else (2, 3)
    there = ~torch.isnan(photons)
    light, shape = torch.where(there, photons, 0.0), fractions * there
    pixels = there.sum(axes, keepdim=True).clamp(min=1)
    contrast = torch.where(there, shape - shape.sum(axes, keepdim=True) / pixels, 0.0)
    bright = (contrast * light).sum((1, 2, 3)) / contrast.square().sum((1, 2, 3)).clamp(min=1e-12)
    bright = bright.clamp(min=1.0)
    level = (light.sum(axes, keepdim=True) - bright[:, None, None, None] * shape.sum(axes, keepdim=True)) / pixels
    return bright, level.flatten(1).clamp(min=0)
