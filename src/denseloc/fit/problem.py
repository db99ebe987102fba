"""The likelihood of groups of emitters on the union of their windows."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.spot_score import score_groups
from ..kernels.spot_score.groups_naive import planes_of_light
from ..kernels.spot_score.naive import placed
from .deviance import deviance, expected_moments, p_value
from .fisher import invert
from .joint_fits import JointFits, Prior
from .levenberg import Climb, Limits
from .scene import Scene

LEAST_BACKGROUND = 1e-3


class Problem:
    """Groups of one size e: their windows, and the likelihood in their parameters.

    Parameters of a group: for each emitter its moves along x and y in px, [depth,] photons; then the background of each plane as level and,
    where it may slope, its changes to the border.
    """

    def __init__(
        self,
        scene: Scene,
        members: Tensor,
        start: Tensor,
        light: Tensor,
        state: JointFits,
        prior: Prior | None,
        around: Tensor | None = None,
    ) -> None:
        """Set up groups (m, e) of one size, in windows around where they are.

        With ``around`` (m, e') the windows are those of an earlier fit of these emitters, of which those that are no members give no light.
        """
        self.scene, self.members = scene, members
        self.m, self.e = members.shape
        self.c = scene.n_coordinates + 1
        self.begin = start[members][..., :2].double()  # (m, e, 2): moves count from here
        self.prior = None if prior is None else Prior(prior.mean[members].double(), prior.precision[members].double())
        self.pixel = state.at[members][..., :2].round().long() if around is None else state.pixel[around]
        around = members if around is None else around
        self._cut(state, light, around, self.pixel)
        own = state.at[members].clone()
        own[..., :2] -= self.begin
        level = _in_order(state.background[around]) / around.shape[1]
        lights = torch.zeros(self.m, scene.psf.planes, scene.kinds, dtype=torch.float64, device=members.device)
        lights[..., 0] = level
        self.first = torch.cat((own.flatten(1), lights.flatten(1)), 1)

    def _cut(self, state: JointFits, light: Tensor, around: Tensor, pixel: Tensor) -> None:
        """Cut the windows of emitters (m, e'): counts, NaN beyond the squares around pixels (m, e', 2), and what else shines into them."""
        scene, half = self.scene, self.scene.half
        low, self.extent = window(pixel, half)
        height, width = (int(v) for v in self.extent.amax(0))
        self.left, self.top = low[:, 0], low[:, 1]
        rows = self.top[:, None] + torch.arange(height, device=pixel.device)
        columns = self.left[:, None] + torch.arange(width, device=pixel.device)
        near_row = (rows[:, None] - pixel[:, :, 1:]).abs() <= half
        near_column = (columns[:, None] - pixel[:, :, :1]).abs() <= half
        there = (near_row[..., None] & near_column[..., None, :]).any(1)  # (m, h, w)
        h, w = scene.shape_px
        there &= ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None]
        frame = state.frame[around[:, 0]]
        index = (
            frame[:, None, None, None],
            torch.arange(scene.psf.planes, device=pixel.device)[None, :, None, None],
            rows.clamp(0, h - 1)[:, None, :, None],
            columns.clamp(0, w - 1)[:, None, None, :],
        )
        self.counts = torch.where(there[:, None], scene.counts[index], torch.nan).contiguous()
        still = scene.dark[(torch.zeros_like(index[0]) if len(scene.dark) == 1 else index[0], *index[1:])]
        self.still = still.contiguous()
        self.shape_px = (height, width)
        mine = self._light(self._draw(state.at[around].flatten(0, 1), around.shape[1]), state.at[around][..., -1])
        others = (light[index] - mine).clamp(min=0)
        self.dark = (self.still + scene.noise.gain * others).contiguous()

    def _draw(self, at: Tensor, e: int) -> Tensor:
        """Draw emitters (m e, c) into the windows: (m, e, planes, h, w) fractions."""
        whole, values = self.scene.fractions(at)
        row, column = whole[:, 1] - self.top.repeat_interleave(e), whole[:, 0] - self.left.repeat_interleave(e)
        return placed(values, row, column, self.shape_px).unflatten(0, (self.m, e))

    @staticmethod
    def _light(fractions: Tensor, photons: Tensor) -> Tensor:
        total = torch.zeros_like(fractions[:, 0]) if fractions.shape[1] else fractions.sum(1)
        # One after the other: `Tensor.sum` takes another order where more stands beside.
        for bright, shape in zip(photons.to(fractions).unbind(1), fractions.unbind(1), strict=True):
            total = total + bright[:, None, None, None] * shape
        return total

    def limits(self) -> Limits:
        """Give the limits of all parameters."""
        scene = self.scene
        level = [[LEAST_BACKGROUND, -float("inf"), -float("inf")][: scene.kinds], [float("inf")] * scene.kinds]
        low, high, stride = (
            torch.tensor(values * self.e + light * scene.psf.planes, dtype=torch.float64, device=self.first.device)
            for values, light in zip(scene.limits, (level[0], level[1], level[1]), strict=True)
        )
        return Limits(low, high, stride)

    def split(self, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Split parameters (k, p) of groups into emitters (k, e, c), in px of the frame, and backgrounds (k, lights)."""
        emitters = at[:, : self.e * self.c].unflatten(1, (self.e, self.c))
        emitters = torch.cat((emitters[..., :2] + self.begin[which], emitters[..., 2:]), 2)
        return emitters, at[:, self.e * self.c :]

    def score(self, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score parameters (k, p) of groups ``which`` (k,), the prior included."""
        emitters, lights = self.split(which, at)
        objective, gradient, fisher = self._likelihood(which, emitters, lights)
        if self.prior is not None:
            pull = self.prior.precision[which] * (emitters[..., :-1] - self.prior.mean[which])
            objective = objective + 0.5 * (pull * (emitters[..., :-1] - self.prior.mean[which])).sum((1, 2))
            fill = torch.zeros_like(emitters[..., :1])
            n = self.e * self.c
            gradient[:, :n] -= torch.cat((pull, fill), 2).flatten(1)
            fisher.diagonal(dim1=1, dim2=2)[:, :n] += torch.cat((self.prior.precision[which], fill), 2).flatten(1)
        return objective, gradient, fisher

    def _likelihood(self, which: Tensor, emitters: Tensor, lights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scene, (k, e) = self.scene, emitters.shape[:2]
        whole, values, slopes = (one.unflatten(0, (k, e)) for one in scene.with_slopes(emitters.flatten(0, 1)))
        row, column = whole[..., 1] - self.top[which, None], whole[..., 0] - self.left[which, None]
        bright = emitters[..., -1]
        return score_groups(
            self.counts, self.dark, self.extent, which, values, slopes, row, column, bright, lights, scene.noise.gain
        )

    def keep(self, found: Climb, limits: Limits, state: JointFits) -> None:
        """Write down how the groups have ended."""
        every = torch.arange(self.m, device=self.first.device)
        emitters, lights = self.split(every, found.at)
        n = self.e * self.c
        pressed = ((found.at <= limits.low) | (found.at >= limits.high))[:, :n].unflatten(1, (self.e, self.c))
        covariance = _blocks(invert(found.fisher), self.e, self.c)
        fisher = _blocks(found.fisher, self.e, self.c)
        if self.prior is not None:
            fisher.diagonal(dim1=2, dim2=3)[..., :-1].sub_(self.prior.precision)
        sound = torch.isfinite(covariance.diagonal(dim1=2, dim2=3)).all(2)
        to = self.members
        state.at[to], state.pixel[to] = emitters, self.pixel
        state.background[to] = self._levels(emitters, lights)
        state.covariance[to], state.fisher[to] = covariance, fisher
        agreement = self.agreement(emitters, lights, found.at.shape[1])
        for values, own in zip((state.log_likelihood, state.deviance_ratio, state.p_value), agreement, strict=True):
            values[to] = own[:, None].expand(self.m, self.e)
        state.iterations[to] = found.iterations[:, None].expand(self.m, self.e)
        state.converged[to] = found.converged[:, None] & sound & ~pressed.any(2)

    def _levels(self, emitters: Tensor, lights: Tensor) -> Tensor:
        """Give the background at the emitters, (m, e, planes)."""
        lights = lights.unflatten(1, (self.scene.psf.planes, self.scene.kinds))
        level = lights[:, None, :, 0].expand(-1, self.e, -1)
        if self.scene.kinds == 1:
            return level
        h, w = self.shape_px
        x = (emitters[..., 0] - self.left[:, None] - (w - 1) / 2) / (w / 2)
        y = (emitters[..., 1] - self.top[:, None] - (h - 1) / 2) / (h / 2)
        return (level + x[..., None] * lights[:, None, :, 1] + y[..., None] * lights[:, None, :, 2]).clamp(min=0)

    def agreement(self, emitters: Tensor, lights: Tensor, p: int) -> Tensor:
        """Give log-likelihood, deviance over its expectation, and p-value of the groups: (3, m)."""
        scene = self.scene
        mine = self._light(self._draw(emitters.flatten(0, 1), self.e), emitters[..., -1])
        level = torch.einsum("nl,lqhw->nqhw", lights, planes_of_light(scene.psf.planes, self.shape_px, lights.shape[1], lights)).to(
            mine
        )
        mean = (scene.noise.gain * (mine + level) + self.dark).clamp(min=1e-6)
        there = ~torch.isnan(self.counts)
        counts = torch.where(there, self.counts, mean).clamp(min=0)
        term = torch.special.xlogy(counts, mean) - mean - torch.lgamma(counts + 1)
        expected, variance = expected_moments(mean, self.still, scene.noise.is_amplified)
        terms = (term, deviance(counts, mean), expected, variance)
        likelihood, value, expected, variance = (torch.where(there, t, 0.0).sum((1, 2, 3), dtype=torch.float64) for t in terms)
        expected, variance = (expected - p).clamp(min=0.1), (variance - 2 * p).clamp(min=0.1)
        return torch.stack((likelihood, value / expected, p_value(value, expected, variance)))


def _in_order(values: Tensor) -> Tensor:
    """Sum (m, e, ...) over e one after the other: `Tensor.sum` takes another order where more stands beside."""
    total = values.new_zeros(values.shape[0], *values.shape[2:])
    for one in values.unbind(1):
        total = total + one
    return total


def _blocks(matrix: Tensor, e: int, c: int) -> Tensor:
    """Take the blocks (m, e, c, c) on the diagonal of matrices (m, p, p) that belong to emitters."""
    own = matrix[:, : e * c, : e * c].unflatten(1, (e, c)).unflatten(3, (e, c))
    return own.diagonal(dim1=1, dim2=3).movedim(-1, 1).clone()


def window(pixel: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Give the first pixel (x, y) and the shape (rows, columns) of the boxes around groups of pixels (m, e, 2): (m, 2) each."""
    low = pixel.amin(1) - half
    return low, (pixel.amax(1) + half - low + 1).flip(1)
