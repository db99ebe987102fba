"""From the points of a sparse solution to localizations: points of one hill are joined, and hills that cannot be told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PAIRS = 1 << 20  # that are held at once
FARTHEST = 1.5  # widths of the PSF between points that may be one emitter


def hills(points: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Climb from each point that shines to the brightest one within ``reach`` rows and columns, and on to the top.

    Args:
        points: (n, rows, columns), not negative.
        reach: of one step.

    Returns:
        (m,) places of the tops in the flattened points, ascending; and for each point that shines, in reading order, the number of its top.
    """
    higher = functional.max_pool2d(points[:, None], 2 * reach + 1, 1, reach, return_indices=True)[1].flatten(1)
    first = torch.arange(len(points), device=points.device)[:, None] * points[0].numel()
    higher = (higher + first).flatten()
    place = torch.nonzero(points.flatten())[:, 0]
    while not torch.equal(place, higher[place]):
        place = higher[place]
    top, number = torch.unique(place, return_inverse=True)
    return top, number


@dataclass(frozen=True, eq=False)
class Spots:
    """Localizations before they are listed.

    Args:
        frame: (n,) ascending.
        place: (n, 2) row and column in px.
        photons: (n,).
        brightness: (n,) heights of one photon over the noise.
    """

    frame: Tensor
    place: Tensor
    photons: Tensor
    brightness: Tensor

    @property
    def significance(self) -> Tensor:
        """Give the height of each over its noise."""
        return self.photons * self.brightness

    def select(self, keep: Tensor) -> Spots:
        """Take those of a mask or an index."""
        return Spots(self.frame[keep], self.place[keep], self.photons[keep], self.brightness[keep])

    def joined(self, width_px: float, significance: float) -> Spots:
        """Join pairs that explain their light hardly better than one emitter in their middle would.

        With p photons in all, shares f and 1 - f, distance d and height a of a photon over its noise, two Gaussians of width w differ from
        one in their middle by ``p f (1 - f) d^2 / 2`` times the second derivative of the image, of which the part that is no change of
        brightness has the height ``a / (w^2 sqrt 2)``. What stays below ``significance`` does not pay for a second point. The pair that
        pays least goes first. All this holds for points within a width or little more; a dim one further away is no part of another, and stays.
        """
        spots = self
        while True:
            pay, partner = spots._least(width_px)
            lone = torch.arange(len(partner), device=partner.device)
            pair = (pay < significance) & (partner[partner] == lone) & (lone < partner)
            if not bool(pair.any()):
                return spots
            one, other = lone[pair], partner[pair]
            photons = spots.photons[one] + spots.photons[other]
            share = (spots.photons[one] / photons)[:, None]
            place = spots.place.index_copy(0, one, share * spots.place[one] + (1 - share) * spots.place[other])
            keep = torch.ones_like(pair).index_fill(0, other, False)
            spots = Spots(spots.frame, place, spots.photons.index_copy(0, one, photons), spots.brightness).select(keep)

    def _least(self, width_px: float) -> tuple[Tensor, Tensor]:
        """Give for each the least pay of a pair with it, and the partner."""
        n = len(self.frame)
        pay, partner = self.photons.new_full((n,), math.inf), torch.arange(n, device=self.frame.device)
        _, counts = torch.unique_consecutive(self.frame, return_counts=True)
        begin = 0
        for count in counts.tolist():
            a, p, place = (one[begin : begin + count] for one in (self.brightness, self.photons, self.place))
            rows = max(1, PAIRS // count)
            for first in range(0, count, rows):
                some = slice(first, first + rows)
                square = (place[some, None] - place).square().sum(2)
                shared = p[some, None] * p / (p[some, None] + p)
                pays = torch.minimum(a[some, None], a) * shared * square / (math.sqrt(8) * width_px**2)
                pays.masked_fill_(square > (FARTHEST * width_px) ** 2, math.inf).diagonal(first).fill_(math.inf)
                here = slice(begin + first, begin + first + len(pays))
                pay[here], nearest = pays.min(1)
                partner[here] = torch.where(pay[here].isfinite(), nearest + begin, partner[here])
            begin += count
        return pay, partner
