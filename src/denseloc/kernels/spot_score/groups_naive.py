"""The definition of the score of groups: how well ``gain (sum N f + b) + dark`` explains the counts of a window.

As `naive`, with e emitters to a window and a background that may slope. Counts are taken as Poisson with mean m. Objective
``sum m - c log m``, gradient of the log-likelihood ``sum (c / m - 1) dm``, Fisher matrix ``sum dm dm^T / m``. Pixels whose count is NaN
are absent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .naive import LEAST_MEAN, placed


def planes_of_light(planes: int, shape: tuple[int, int], lights: int, like: Tensor) -> Tensor:
    """Give what each background parameter adds to the windows' pixels, (lights, planes, h, w).

    ``lights`` is ``planes``: one level for each plane; or three times that: level, slope along x, slope along y of the first plane, of the
    second, ...; the slopes are the change from the window's middle to its border.
    """
    h, w = shape
    level = torch.ones(h, w, dtype=like.dtype, device=like.device)
    y = (torch.arange(h, dtype=like.dtype, device=like.device) - (h - 1) / 2) / (h / 2)
    x = (torch.arange(w, dtype=like.dtype, device=like.device) - (w - 1) / 2) / (w / 2)
    shapes = torch.stack((level, x.expand(h, w), y[:, None].expand(h, w)))[: lights // planes]
    own = torch.eye(planes, dtype=like.dtype, device=like.device)
    return (own[:, None, :, None, None] * shapes[None, :, None]).flatten(0, 1)


def score(
    counts: Tensor,
    dark: Tensor,
    extent: Tensor,
    which: Tensor,
    values: Tensor,
    slopes: Tensor,
    row: Tensor,
    column: Tensor,
    photons: Tensor,
    background: Tensor,
    gain: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score groups of patches against windows.

    Args:
        counts: (n, planes, h, w); NaN where there is no pixel.
        dark: (n or 1, planes, h, w) mean counts of all that is not fitted.
        extent: (n, 2) int64 rows and columns of each window; what lies beyond is no pixel, and does not change the order of the sums.
        which: (m,) int64 window of each group.
        values: (m, e, planes, k, k) fractions of the photons.
        slopes: (m, e, d, planes, k, k) their derivatives by d coordinates.
        row, column: (m, e) int64 pixel of the window on which a patch's middle lies; may lie outside.
        photons: (m, e) float64.
        background: (m, planes) or (m, 3 planes) float64, see `planes_of_light`.
        gain: mean counts per photon.

    Returns:
        objective (m,), gradient (m, p) of the log-likelihood and Fisher matrix (m, p, p), float64. Parameters: emitter by emitter the d
        coordinates and the photons, then the background's.
    """
    shape = (counts.shape[-2], counts.shape[-1])
    c, own = counts[which].double(), dark.double()[which if len(dark) > 1 else torch.zeros_like(which)]
    drawn = torch.cat((photons[:, :, None, None, None, None] * slopes.double(), values.double()[:, :, None]), 2)
    m, e = photons.shape
    every = placed(drawn.flatten(0, 1), row.flatten(), column.flatten(), shape).reshape(m, e, *drawn.shape[2:-2], *shape)
    lights = planes_of_light(counts.shape[1], shape, background.shape[1], c)
    light = torch.einsum("ne,neqhw->nqhw", photons, every[:, :, -1]) + torch.einsum("nl,lqhw->nqhw", background, lights)
    mean = (gain * light + own).clamp(min=LEAST_MEAN)
    rows, columns = (
        torch.arange(side, device=c.device) < own[which, None] for side, own in zip(shape, extent.unbind(1), strict=True)
    )
    there = ~torch.isnan(c) & (rows[:, None, :, None] & columns[:, None, None, :])
    c = torch.where(there, c, mean)
    terms = gain * torch.cat((every.flatten(1, 2), lights.expand(m, *lights.shape)), 1)
    objective = ((mean - c * mean.log()) * there).sum((1, 2, 3))
    gradient = torch.einsum("npqhw,nqhw->np", terms, (c / mean - 1) * there)
    return objective, gradient, torch.einsum("npqhw,nrqhw,nqhw->npr", terms, terms, there / mean)
