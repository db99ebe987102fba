"""The definition of the score of spots: how well ``gain (N f + b) + dark`` explains the counts of a window.

Counts are taken as Poisson with mean m. Objective ``sum m - c log m`` (half of the deviance less a constant), gradient of the
log-likelihood ``sum (c / m - 1) dm``, Fisher matrix ``sum dm dm^T / m``. Pixels whose count is NaN are absent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_MEAN = 1e-6
"""Expectations below this (a patch with negative tails on a dark background) count as this."""


def placed(patches: Tensor, row: Tensor, column: Tensor, shape: tuple[int, int]) -> Tensor:
    """Put patches into windows.

    Args:
        patches: (m, ..., k, k), k odd.
        row, column: (m,) int64 pixel of the window on which the patch's middle pixel lies; may lie outside.
        shape: (h, w) of the windows.

    Returns:
        (m, ..., h, w); pixels that the patch does not reach are 0.
    """
    m, k = len(patches), patches.shape[-1]
    flat = patches.reshape(m, patches.shape[1:-2].numel(), k, k)
    at_row, at_column = (
        torch.arange(side, device=patches.device) - middle[:, None] + k // 2
        for side, middle in zip(shape, (row, column), strict=True)
    )
    inside = ((at_row >= 0) & (at_row < k))[:, None, :, None] & ((at_column >= 0) & (at_column < k))[:, None, None, :]
    index = (
        torch.arange(m, device=patches.device)[:, None, None, None],
        torch.arange(flat.shape[1], device=patches.device)[:, None, None],
    )
    taken = flat[(*index, at_row.clamp(0, k - 1)[:, None, :, None], at_column.clamp(0, k - 1)[:, None, None, :])]
    return torch.where(inside, taken, torch.zeros_like(taken)).reshape(*patches.shape[:-2], *shape)


def score(
    counts: Tensor,
    dark: Tensor,
    which: Tensor,
    values: Tensor,
    slopes: Tensor,
    row: Tensor,
    column: Tensor,
    photons: Tensor,
    background: Tensor,
    gain: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score patches against windows.

    Args:
        counts: (n, planes, h, w); NaN where there is no pixel.
        dark: (n or 1, planes, h, w) mean counts without light.
        which: (m,) int64 window of each spot.
        values: (m, planes, k, k) fractions of the photons.
        slopes: (m, d, planes, k, k) their derivatives by d parameters, d <= 3.
        row, column: (m,) int64 pixel of the window on which the patch's middle lies.
        photons: (m,) float64.
        background: (m, planes), or (m, 1) for one that all planes share; float64.
        gain: mean counts per photon.

    Returns:
        objective (m,), gradient (m, p) of the log-likelihood and Fisher matrix (m, p, p), float64. Parameters: the d of the slopes,
        photons, backgrounds.
    """
    shape = (counts.shape[-2], counts.shape[-1])
    return _scored(
        counts[which].double(),
        dark.double()[which if len(dark) > 1 else torch.zeros_like(which)],
        placed(values.double(), row, column, shape),
        placed(slopes.double(), row, column, shape),
        photons,
        background,
        gain,
    )


def _scored(
    c: Tensor, dark: Tensor, f: Tensor, df: Tensor, photons: Tensor, background: Tensor, gain: float
) -> tuple[Tensor, Tensor, Tensor]:
    planes = f.shape[1]
    level = background.expand(-1, planes)[:, :, None, None]
    mean = (gain * (photons[:, None, None, None] * f + level) + dark).clamp(min=LEAST_MEAN)
    there = ~torch.isnan(c)
    c = torch.where(there, c, mean)
    plane_of = torch.eye(planes, dtype=f.dtype, device=f.device) if background.shape[1] > 1 else f.new_ones(1, planes)
    lights = plane_of[None, :, :, None, None].expand(len(f), -1, -1, *f.shape[-2:])
    slopes = gain * torch.cat((photons[:, None, None, None, None] * df, f[:, None], lights), 1)
    objective = ((mean - c * mean.log()) * there).sum((1, 2, 3))
    gradient = torch.einsum("npqhw,nqhw->np", slopes, (c / mean - 1) * there)
    return objective, gradient, torch.einsum("npqhw,nrqhw,nqhw->npr", slopes, slopes, there / mean)


def score_aligned(
    counts: Tensor,
    dark: Tensor,
    which: Tensor,
    position: Tensor,
    width: Tensor,
    growth: Tensor,
    photons: Tensor,
    background: Tensor,
    gain: float,
    n_slopes: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score Gaussians aligned with the pixels, integrated over them, against windows of one plane.

    Args:
        counts, dark, which: as for `score`, with one plane.
        position: (m, 2) x, y in px, pixel centres on the integers.
        width: (m, 2) standard deviations along x and y in px.
        growth: (m, 2) their derivatives by a third parameter (a depth, a factor on both widths), or by a factor on each.
        photons, background, gain: as for `score`; background (m, 1).
        n_slopes: 2 for x and y alone, 3 with the third parameter, 4 with a factor on each width.

    Returns:
        as `score`, with the parameters x, y, [third, or the factors along x and y,] photons, background.
    """
    (column, column_x, column_s), (row, row_y, row_s) = (
        _line(position[:, axis], width[:, axis], counts.shape[-1 - axis]) for axis in (0, 1)
    )

    def outer(along_y: Tensor, along_x: Tensor) -> Tensor:
        return along_y[:, None, :, None] * along_x[:, None, None, :]

    grown = [growth[:, 0, None, None, None] * outer(row, column_s), growth[:, 1, None, None, None] * outer(row_s, column)]
    grown = [grown[0] + grown[1]] if n_slopes == 3 else grown
    slopes = torch.stack([outer(row, column_x), outer(row_y, column), *grown][:n_slopes], 1)
    dark = dark.double()[which if len(dark) > 1 else torch.zeros_like(which)]
    return _scored(counts[which].double(), dark, outer(row, column), slopes, photons, background, gain)


def drawn_aligned(position: Tensor, width: Tensor, shape: tuple[int, int]) -> Tensor:
    """Draw aligned Gaussians into windows of a shape (h, w): (m, 1, h, w) fractions of the photons; arguments as for `score_aligned`."""
    column, row = (_line(position[:, axis], width[:, axis], shape[1 - axis])[0] for axis in (0, 1))
    return row[:, None, :, None] * column[:, None, None, :]


def _line(centre: Tensor, width: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate 1D Gaussians over pixels 0 .. size - 1, with the derivatives by centre and width; (m, size) each."""
    u = (torch.arange(size + 1, device=centre.device, dtype=torch.float64) - 0.5 - centre[:, None]) / width[:, None]
    density = torch.exp(-0.5 * u * u) / (math.sqrt(2 * math.pi) * width[:, None])
    return 0.5 * torch.erf(u / math.sqrt(2)).diff(dim=1), -density.diff(dim=1), -(u * density).diff(dim=1)
