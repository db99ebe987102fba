"""A pixel posterior as a law of whole sets of emitters: K sets at once, and the probability of exactly what was drawn.

Pixels that speak of one emitter are drawn as one: their group holds an emitter with the sum of their probabilities, and its place
follows the mixture of their normal laws. A group of one pixel is the independent pixel of the paper. Drawn alone, two neighbours
that share an emitter would give none or two of them half of the time, and few sets of a crowded frame would be right.

Source: Speiser, Turaga, Macke 2019, sections 1.4 and 1.6 (independent pixels). Ours: the groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data import Emitters
from .candidates import candidates
from .posterior import NEIGHBOURHOOD, PixelPosterior

MOST = 0.9997  # probability of a group; a certain one would make its absence impossible
EDGE_PX = 0.15  # how softly the prior of a pixel's emitter ends at the pixel's edge
LEAST = 1e-12


@dataclass(frozen=True)
class Draws:
    """K sets of emitters for each of n frames; struct of arrays of length m.

    Args:
        k: number of sets.
        n: number of frames.
        row: (m,) int64 ``set * n + frame``.
        head: (m,) int64 group, as the flat index of its first pixel.
        value: (m, 4) x and y in px (pixel centres on the integers), z / z_unit, log(photons / photon_unit).
    """

    k: int
    n: int
    row: Tensor
    head: Tensor
    value: Tensor

    def __len__(self) -> int:
        return len(self.row)

    def select(self, keep: Tensor) -> Draws:
        """Take the emitters of a mask or of an index."""
        return Draws(self.k, self.n, self.row[keep], self.head[keep], self.value[keep])

    def sets(self, first: int, last: int) -> Draws:
        """Take the sets first .. last - 1."""
        kept = self.select((self.row >= first * self.n) & (self.row < last * self.n))
        return Draws(last - first, self.n, kept.row - first * self.n, kept.head, kept.value)

    @staticmethod
    def concat(parts: Sequence[Draws]) -> Draws:
        """Join emitters of the same sets and frames."""
        rows, heads, values = (torch.cat([getattr(part, name) for part in parts]) for name in ("row", "head", "value"))
        return Draws(parts[0].k, parts[0].n, rows, heads, values)


class SetLaw:
    """The law of the sets.

    Args:
        posterior: maps of n frames.
        head: (n h w,) group of each pixel, as the flat index of the group's first pixel; `groups` and `single_pixels` give it.
        zone: (h, w) int64 number of the zone that a group belongs to by its first pixel; -1 for pixels whose groups are not drawn but left to
            `fixed`. All in zone 0 if None.
    """

    def __init__(self, posterior: PixelPosterior, head: Tensor, zone: Tensor | None = None) -> None:
        self.posterior, self.head = posterior, head
        n, h, w = posterior.logit.shape
        self.shape = (n, h, w)
        p = posterior.probability.flatten()
        self.sum = torch.zeros_like(p).index_add(0, head, p)
        self.total = self.sum.clamp(max=MOST)
        self.size = torch.bincount(head, minlength=len(p))
        zone = torch.zeros(h, w, dtype=torch.long, device=head.device) if zone is None else zone
        self.zones = int(zone.max()) + 1
        self.zone = zone.expand(n, h, w).flatten()
        self.free = (self.size > 0) & (self.zone >= 0)
        self.order = torch.argsort(head, stable=True)
        self.start = torch.cumsum(self.size, 0) - self.size

    @torch.no_grad()
    def draw(self, k: int, generator: torch.Generator) -> Draws:
        """Draw k sets for each frame: which groups hold an emitter, by which of its pixels, and where."""
        n, h, w = self.shape
        chance = torch.where(self.free, self.total, 0.0)
        hit = torch.rand(k, len(chance), generator=generator, device=chance.device) < chance
        copy, head = torch.nonzero(hit, as_tuple=True)
        mass = torch.cumsum(self.posterior.probability.flatten()[self.order].double(), 0)
        u = torch.rand(len(head), generator=generator, device=chance.device, dtype=torch.float64)
        before = torch.where(self.start[head] > 0, mass[(self.start[head] - 1).clamp(min=0)], 0.0)
        first, last = self.start[head], self.start[head] + self.size[head] - 1
        at = torch.searchsorted(mass, before + u * (mass[last] - before), right=True)
        pixel = self.order[torch.minimum(torch.maximum(at, first), last)]
        mean, sigma = self._normal(pixel)
        value = mean + sigma * torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return Draws(k, n, copy * n + head // (h * w), head, value)

    def log_prob(self, draws: Draws) -> Tensor:
        """Log-probability (k, n, zones) of each set: per group Bernoulli, then the mixture of its pixels' normal laws at the emitter.

        The density is per px (x, y), z / z_unit (left out without depth) and log photon. The emitters are of groups that are drawn: what `fixed`
        gives in zone -1 is to be left out.
        """
        hit, pixel = self._members(draws.head)
        mean, sigma = self._normal(pixel)
        density = self.posterior._log_normal(draws.value[hit], mean, sigma)
        weight = torch.nn.functional.logsigmoid(self.posterior.logit.flatten()[pixel])
        place = _logsumexp(weight + density, hit, len(draws)) - self.sum[draws.head].clamp(min=LEAST).log()
        return self._sum(draws, self.total, place)

    def log_prior(self, draws: Draws, per_px: Tensor, marks: Tensor) -> Tensor:
        """Log-probability (k, n, zones) of each set before the frame was seen, by the same groups.

        Emitters fall on all pixels alike: a group of g pixels holds one with the probability ``g per_px``, evenly over its pixels with softened
        edges, ``(s((x + 1/2) / e) - s((x - 1/2) / e))`` for the logistic s, which adds up to one over the pixels.

        Args:
            draws: of this law, as for `log_prob`.
            per_px: () expected emitters on a pixel in a frame.
            marks: (m,) log-density of z and photons.
        """
        hit, pixel = self._members(draws.head)
        _, h, w = self.shape
        row, column = pixel % (h * w) // w, pixel % w
        away = draws.value[hit, :2] - torch.stack((column, row), -1)
        edges = torch.sigmoid((away + 0.5) / EDGE_PX) - torch.sigmoid((away - 0.5) / EDGE_PX)
        place = _logsumexp(edges.clamp(min=1e-30).log().sum(-1), hit, len(draws)) - self.size[draws.head].log()
        return self._sum(draws, (per_px * self.size).clamp(max=0.9), place + marks)

    def _sum(self, draws: Draws, chance: Tensor, place: Tensor) -> Tensor:
        """Add up the groups: ``log(1 - c)`` of all free ones, and ``log c - log(1 - c)`` and the place of those that were drawn."""
        none = torch.where(self.free, torch.log1p(-chance), 0.0)
        n, h, w = self.shape
        group = torch.nonzero(self.free)[:, 0]
        base = none.new_zeros(n * self.zones).index_add(0, group // (h * w) * self.zones + self.zone[group], none[group])
        each = chance[draws.head].clamp(min=LEAST).log() - none[draws.head] + place
        return self.by_zone(draws, each) + base.reshape(n, self.zones)

    def by_zone(self, draws: Draws, each: Tensor) -> Tensor:
        """Add up a number of each emitter, (m,), for each set, frame and zone: (k, n, zones)."""
        drawn = each.new_zeros(draws.k * draws.n * self.zones).index_add(0, draws.row * self.zones + self.zone[draws.head], each)
        return drawn.reshape(draws.k, draws.n, self.zones)

    def emitters(self, draws: Draws) -> Emitters:
        """Give the emitters of all sets; those of set k and frame f stand in frame ``k n + f``."""
        return as_emitters(self.posterior, draws.row, draws.value)

    @torch.no_grad()
    def fixed(self) -> Draws:
        """Give the emitters of the groups that are more likely there than not, in all zones and outside of them, at their mean places."""
        n, h, w = self.shape
        head = torch.nonzero((self.size > 0) & (self.sum > 0.5))[:, 0]
        hit, pixel = self._members(head)
        p = self.posterior.probability.flatten()[pixel]
        value = torch.zeros(len(head), 4, dtype=p.dtype, device=p.device).index_add(0, hit, p[:, None] * self._normal(pixel)[0])
        return Draws(1, n, head // (h * w), head, value / self.sum[head, None])

    def _normal(self, pixel: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and standard deviation (m, 4) of pixels by their flat indices; x and y count from the corner pixel's centre."""
        _, h, w = self.shape
        mean, sigma = (maps.permute(0, 2, 3, 1).reshape(-1, 4)[pixel] for maps in (self.posterior.mean, self.posterior.sigma))
        zero = torch.zeros_like(pixel)
        return mean + torch.stack((pixel % w, pixel % (h * w) // w, zero, zero), -1), sigma

    def _members(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """List the pixels of some groups: number of the group in the list, and flat index of the pixel."""
        size = self.size[head]
        hit = torch.repeat_interleave(torch.arange(len(head), device=head.device), size)
        within = torch.arange(len(hit), device=head.device) - torch.repeat_interleave(torch.cumsum(size, 0) - size, size)
        return hit, self.order[self.start[head][hit] + within]


def _logsumexp(values: Tensor, group: Tensor, n: int) -> Tensor:
    """Log of the summed exponentials of each group, (n,)."""
    top = torch.full((n,), -math.inf, dtype=values.dtype, device=values.device).scatter_reduce(0, group, values.detach(), "amax")
    return top + torch.zeros_like(top).index_add(0, group, torch.exp(values - top[group])).log()


def as_emitters(posterior: PixelPosterior, frame: Tensor, value: Tensor) -> Emitters:
    """Give coordinates (m, 4) of a posterior their units."""
    y_nm, x_nm = posterior.pixel_size_nm
    x, y, z, brightness = value.unbind(-1)
    return Emitters.of(
        frame=frame,
        x_nm=(x + 0.5) * x_nm,
        y_nm=(y + 0.5) * y_nm,
        z_nm=z * posterior.z_unit_nm,
        photons=torch.exp(brightness.clamp(-20, 20)) * posterior.photon_unit,
    )


def single_pixels(posterior: PixelPosterior) -> Tensor:
    """Let each pixel be a group of its own, as in the paper."""
    return torch.arange(posterior.logit.numel(), device=posterior.logit.device)


@torch.no_grad()
def groups(posterior: PixelPosterior, *, radius_px: float = 0.8, depth: float = 0.5) -> Tensor:
    """Group the pixels whose predictions agree, as decoding by position does; pixels that are hardly ever one stay alone."""
    from ..kernels.merge import numba_cpu

    found = candidates(posterior, 0, (0, 0))
    x, y, z, _ = found.value.T
    x, y, z = (np.ascontiguousarray(v) for v in (x, y, z))
    far = depth if posterior.z_unit_nm else math.inf
    group = numba_cpu.merge(found.frame, found.row, found.column, found.probability, x, y, z, NEIGHBOURHOOD, radius_px, far)
    _, h, w = posterior.logit.shape
    pixel = (found.frame * h + found.row) * w + found.column
    head = np.arange(posterior.logit.numel())
    head[pixel] = pixel[group]
    return torch.from_numpy(head).to(posterior.logit.device)


def divergence(from_: PixelPosterior, to: PixelPosterior) -> Tensor:
    """Kullback-Leibler divergence (n,) of each frame's independent pixels, from a fixed posterior to another one."""
    p, log_p, log_q = from_.probability, torch.nn.functional.logsigmoid, torch.nn.functional.logsigmoid
    detection = p * (log_p(from_.logit) - log_q(to.logit)) + (1 - p) * (log_p(-from_.logit) - log_q(-to.logit))
    ratio = from_.sigma / to.sigma
    place = 0.5 * (ratio**2 + ((from_.mean - to.mean) / to.sigma) ** 2 - 1) - ratio.log()
    used = [0, 1, 2, 3] if from_.z_unit_nm else [0, 1, 3]
    return (detection + p * place[:, used].sum(1)).sum((1, 2))
