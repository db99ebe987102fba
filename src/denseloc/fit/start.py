"""Where fits begin: depths that tell the shapes of a PSF apart, and matched-filter estimates of position, photons and background."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Masks:
    """Images at s depths, and what of them is the same for all windows.

    Args:
        rows: (s, 4, planes, h, w) float64: the image less its mean over each plane, the image, and that times column and row from the middle.
        constants: (s, 8) float64: one over the sum of the squares of the first; the sums of the others under the image's mean; the means of
            column and row under the squared image; column and row of the middle.
    """

    rows: Tensor
    constants: Tensor


@torch.no_grad()
def masks_of(psf: PSF, depths_nm: Tensor, shape: tuple[int, int]) -> Masks:
    """Make masks for windows of a shape (rows, columns).

    Args:
        psf: as `drawing.frozen` gives it.
        depths_nm: (s,).
        shape: of the windows.
    """
    z = depths_nm.to(number_type(psf))
    middle_row, middle_column = (torch.full((len(z),), (side - 1) // 2, device=z.device) for side in shape)
    drawn = naive.placed(psf(z.new_zeros(len(z), 2), z), middle_row, middle_column, shape).double()
    row, column = (torch.arange(side, device=z.device) - (side - 1) // 2 for side in shape)
    spare = drawn.mean((2, 3), keepdim=True)  # the mean over a window is background and the emitter's own light
    rows = torch.stack((drawn - spare, drawn, drawn * column, drawn * row[:, None]), 1)
    axes = (1, 2, 3)
    square = drawn.square().sum(axes)
    sums = [
        1 / rows[:, 0].square().sum(axes),
        *((mask * spare).sum(axes) for mask in rows.unbind(1)[1:]),
        *((mask * drawn).sum(axes) / square for mask in rows.unbind(1)[2:]),
    ]
    return Masks(rows, torch.stack((*sums, middle_column.double(), middle_row.double()), 1))


@torch.no_grad()
def by_moments(masks: Masks, photons: Tensor) -> Tensor:
    """Estimate positions in windows with the images at some depths as masks.

    The light under a mask of the emitter's own shape has its centre half as far from the mask's as the emitter (exactly so for Gaussians).

    Args:
        masks: as `masks_of` gives them.
        photons: (n, planes, h, w); NaN where there is no pixel.

    Returns:
        (n, s, 2) x, y in px of the window.
    """
    level = photons.nanmean((2, 3), keepdim=True)
    above = torch.where(torch.isnan(photons), torch.zeros_like(photons), photons - level)
    rows, constants = masks.rows.to(photons), masks.constants.to(photons)
    # not as a product of matrices, whose rounding depends on how many windows there are
    sums = [torch.stack([(above * mask).sum((1, 2, 3)) for mask in row], 1) for row in rows.unbind(1)]
    bright, total, along_x, along_y = sums
    scale, spare, spare_x, spare_y, middle_x, middle_y, column, line = constants.T
    bright = bright * scale
    total = total + bright * spare
    shift_x = 2 * ((along_x + bright * spare_x) / total - middle_x)
    shift_y = 2 * ((along_y + bright * spare_y) / total - middle_y)
    shift = torch.stack((shift_x, shift_y), 2)
    shift = torch.where((total > 0)[:, :, None] & torch.isfinite(shift), shift, torch.zeros_like(shift))
    return shift.clamp(-REACH_PX, REACH_PX) + torch.stack((column, line), 1)


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
