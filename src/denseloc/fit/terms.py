"""Scores of spots in plain tensor operations: the likelihood of what no kernel draws, and least squares.

By least squares all pixels of a window weigh alike, as in programs that fit spots without a model of their noise. The squares are those of the
counts of `noise`, over one number for each window, so that steps and tolerances keep their meaning: the estimates are those that minimise the
unweighted squares of photons. Bright pixels are noisier and should count less, so that errors are larger than the Cramer-Rao bound, up to a
third for bright 2D spots. They are stated by ``A^-1 B A^-1`` with ``A = sum dm dm^T`` and ``B = sum m dm dm^T``, right for many photons whatever
the shape.

Source: Mortensen et al., Nature Methods 7 (2010) 377 (the error of unweighted least squares); White, Econometrica 48 (1980) 817 (its
general form).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.spot_score.naive import LEAST_MEAN
from .drawing import Drawing, SpotPixels
from .fisher import invert


@dataclass(frozen=True)
class Terms:
    """What the pixels of spots are expected to be.

    Args:
        counts, mean: (m, planes, h, w), equal where there is no pixel.
        slopes: (m, p, planes, h, w) of the mean by all parameters, 0 where there is no pixel.
    """

    counts: Tensor
    mean: Tensor
    slopes: Tensor

    @classmethod
    def of(cls, drawing: Drawing, windows: SpotPixels, which: Tensor, at: Tensor) -> Terms:
        """Draw spots (m, p) for windows ``which`` (m,)."""
        values, moves = drawing.images(which, at, windows.shape_px)
        k, planes = drawing.n_coordinates, values.shape[1]
        photons, background = at[:, k, None, None, None], at[:, k + 1 :]
        dark = windows.dark[which] if len(windows.dark) > 1 else windows.dark
        light = photons * values + background.expand(-1, planes)[:, :, None, None]
        mean = (windows.gain * light + dark.double()).clamp(min=LEAST_MEAN)
        one = torch.eye(planes, dtype=at.dtype, device=at.device) if background.shape[1] > 1 else at.new_ones(1, planes)
        level = one[None, :, :, None, None].expand(len(at), -1, -1, *windows.shape_px)
        slopes = windows.gain * torch.cat((photons[:, None] * moves, values[:, None], level), 1)
        counts = windows.counts[which].double()
        there = ~torch.isnan(counts)
        return cls(torch.where(there, counts, mean), mean, slopes * there[:, None])

    def product(self, weight: Tensor) -> Tensor:
        """Sum products of slopes under weights of the pixels: (m, p, p)."""
        return torch.einsum("npqhw,nrqhw,nqhw->npr", self.slopes, self.slopes, weight.expand_as(self.mean))

    def likelihood(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give objective, gradient and Fisher matrix of Poisson counts, as kernels/spot_score says, less a constant."""
        objective = (self.mean - self.counts * self.mean.log()).sum((1, 2, 3))
        gradient = torch.einsum("npqhw,nqhw->np", self.slopes, self.counts / self.mean - 1)
        return objective, gradient, self.product(1 / self.mean)

    def squares(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give half the sum of squares, half its gradient with the sign of a likelihood's, and its curvature, over the mean of the counts."""
        scale = self.counts.mean((1, 2, 3), keepdim=True).clamp(min=0.1)
        rest = self.counts - self.mean
        gradient = torch.einsum("npqhw,nqhw->np", self.slopes, rest / scale)
        return (rest.square() / (2 * scale)).sum((1, 2, 3)), gradient, self.product(1 / scale)


def likelihood(drawing: Drawing, windows: SpotPixels, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Score spots (m, p) against windows ``which`` (m,) as `Drawing.score` does."""
    return Terms.of(drawing, windows, which, at).likelihood()


def squares(drawing: Drawing, windows: SpotPixels, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Score spots (m, p) against windows ``which`` (m,) as `Drawing.score` does, by squares."""
    return Terms.of(drawing, windows, which, at).squares()


def spread(drawing: Drawing, windows: SpotPixels, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tell how far estimates by least squares scatter.

    Returns:
        covariance (m, p, p), infinite where it is not known; its bound, the inverse of the Fisher matrix (m, p, p); and by how much the
        deviance exceeds that of the likeliest estimates in the mean (m,).
    """
    terms = Terms.of(drawing, windows, which, at)
    inverse = invert(terms.product(torch.ones_like(terms.mean)))
    covariance = (inverse @ terms.product(terms.mean) @ inverse).nan_to_num(nan=float("inf"))
    fisher = terms.product(1 / terms.mean)
    more = (covariance * fisher).sum((1, 2)) - at.shape[1]
    return covariance, invert(fisher), more
