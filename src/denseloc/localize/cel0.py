"""CEL0: sparse deconvolution; the fewest points on a grid finer than the pixels whose light explains a frame.

A frame d is background b plus the light ``A x`` of points x >= 0. With weights w, one over the variance of the pixels,
``a_i^2 = sum w A_i^2`` and the significance s, what is minimised is

    sum w (d - b - A x)^2 / 2 + sum phi_i(x_i),     phi(x) = s^2 / 2 - (a x - s)^2 / 2 where a x < s, s^2 / 2 elsewhere,

the continuous exact relaxation of a price ``s^2 / 2`` for each point that shines: s is the height, in standard deviations of its own noise,
from which on a point is believed. phi is concave; its slope at the last x becomes the weight of an l1 norm (iteratively reweighted l1), and
each of these convex problems is walked down by FISTA, first on a coarse grid. A step of FISTA is bounded by the light that a point shares with
all others: with only the points that still shine counted, it grows as they become few. b follows as the constant of a frame that fits best,
w as the noise of the light found. At last the points and their neighbours are fitted without a price, so that their centre is not bound to
the grid, and points that lie too near to each other to be told apart are joined.

Source: Soubies, Blanc-Feraud, Aubert, SIAM J. Imaging Sci. 8 (2015) 1607 (the penalty); Gazagnes, Soubies, Blanc-Feraud, IEEE ISBI (2017) 28
(reweighted l1 for single molecules); Beck, Teboulle, SIAM J. Imaging Sci. 2 (2009) 183 (FISTA); Zhu et al., Nature Methods 9 (2012) 721
(l1 alone, as ``penalty = "l1"``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ..data import Frames, Localizations
from ..errors import ModelError
from ..fit.drawing import focus_of, number_type
from ..optics import PSF
from .base import Scales
from .fine_grid import FineGrid, fine_images
from .fitting import Fitting, FittingSettings, width_in_px
from .single import window_for, window_for_width
from .spots import Spots, hills

COARSE = 2  # points per pixel of the first grid: there sparsity is found, at a quarter of the work
CONVEX = (50, 40)  # steps of l1 with all points, and with those that shine
REWEIGHTED = (25, 25, 25)  # steps of each l1 that follows, on the first grid
FINER = (15, 15)  # and on each finer one
SETTLED = 40  # steps of the last fit, without a price
TAIL_PX = 1  # the image of a point reaches this much farther than the window of a fit: bright emitters leave light there
LEAST_INSIDE = 0.25  # of a point's squared brightness that must lie on the frame
LEAST_LIGHT = 0.5  # of the background told: no pixel is taken to be darker
DARKEST = 0.1  # photons per pixel: weights stay finite
HILL = 0.25  # widths of the PSF within which a point belongs to a brighter one
SPLIT = 0.45  # of the significance: what two emitters in the place of one must gain
NUMBERS = 1 << 25  # points that are held at once on a GPU


class CEL0Settings(FittingSettings):
    """``[localizer] kind = "cel0"``."""

    kind: Literal["cel0"] = "cel0"
    z_nm: float | None = Field(
        None, description="the one depth at which a PSF that tells depths is used; without, such a PSF is refused"
    )
    upsampling: Literal[2, 4, 8] = Field(4, description="points of the grid per pixel and axis")
    penalty: Literal["cel0", "l1"] = Field(
        "cel0", description="cel0: on the number of points; l1: on their light (compressed sensing)"
    )
    significance: float = Field(4.5, gt=0, description="least brightness of a point, in standard deviations of its own noise")

    def build(self, scales: Scales) -> CEL0:
        """Make the localizer; it needs no training.

        Raises:
            ModelError: the PSF tells depths, and none was given.
        """
        if self.psf is not None and self.psf.tells_depth and self.z_nm is None:
            raise ModelError(
                f"the PSF '{self.psf.kind}' tells depths, method 'cel0' finds x and y only; set 'z_nm' for molecules of one depth, "
                "or say --method single"
            )
        return CEL0(self, scales)


class CEL0(Fitting):
    """Finds the fewest points that explain a frame. It knows no probability and no standard deviations."""

    settings: CEL0Settings
    block_px = 1 << 18

    def patch_px(self) -> int:
        """Give the pixels across a Gaussian that nobody gave."""
        return window_for_width(self.conditions.width_px) + 2 * TAIL_PX

    @torch.no_grad()
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize; see `Localizer.forward`. Frames are explained whole, so that tiles have no meaning here.

        Raises:
            ModelError: a threshold was set, or the PSF varies in the field, has another number of planes or does not reach the depth.
        """
        (start, stop), psf, first = self.part_of(frames, keep), self.psf_for(frames), frames.first_frame
        levels = self._levels(psf, self._depth(psf), frames)
        reach = max(1, round(HILL * width_in_px(psf) * self.settings.upsampling))
        # A frame alone stays in the cache of a processor, and its last digits do not depend on which others stand beside it.
        at_once = 1 if frames.photons.device.type == "cpu" else max(1, NUMBERS // math.prod(levels[-1].grid.shape))
        parts = [Localizations.empty(("frame", "x_nm", "y_nm", "photons", "background"))]
        for begin in range(start, stop, at_once):
            scene = _scene(frames, slice(begin, min(begin + at_once, stop)), self.conditions)
            points, scene = self._explain(levels, scene)
            if points is not None:
                parts.append(self._listed(points, levels[-1], scene, reach, replace(frames, first_frame=first + begin)))
        return Localizations.concat(parts).sort()

    def _depth(self, psf: PSF) -> Tensor:
        """Give the depth at which the PSF is drawn, (1,); refuse what cannot be."""
        if psf.varies_in_field:
            raise ModelError(
                "the PSF varies in the field, method 'cel0' draws one for all of it; give a PSF of one place, or say --method single"
            )
        told, known = self.settings.z_nm, psf.z_range_nm
        if told is not None and known is not None and not known[0] <= told <= known[1]:
            raise ModelError(f"z_nm {told:g}; expected a depth that the PSF knows: {known[0]:g} to {known[1]:g} nm")
        return number_type(psf).new_tensor([focus_of(psf) if told is None else told])

    def _levels(self, psf: PSF, z_nm: Tensor, frames: Frames) -> list[_Level]:
        """Make the grids, the coarsest first."""
        size = min(psf.roi_px, window_for(psf, z_nm) + 2 * TAIL_PX)
        finest, width = self.settings.upsampling, width_in_px(psf)
        return [
            _Level.of(fine_images(psf, z_nm, size, u).to(frames.photons), frames.shape_px, u, width)
            for u in (COARSE, 4, 8)
            if u <= finest
        ]

    def _explain(self, levels: list[_Level], scene: _Scene) -> tuple[Tensor | None, _Scene]:
        """Find the points on the last grid, (n, rows, columns), and the scene with its last background and weights; None for empty frames."""
        s, is_l1 = self.settings.significance, self.settings.penalty == "l1"
        points = scene.light.new_zeros(len(scene.light), *levels[0].grid.shape)
        rest = scene.light - scene.background
        height = levels[0].grid.gather(scene.weight * scene.less_constant(rest))
        if not bool((height > s * levels[0].brightness(scene.weight)).any()):
            return None, scene
        for level, coarser in zip(levels, [None, *levels], strict=False):
            plan: tuple[int, ...] = FINER if coarser else (*CONVEX, *REWEIGHTED)
            if coarser is not None:
                points = level.refined(points, coarser)
            for i, steps in enumerate(plan):
                is_convex = is_l1 or (coarser is None and i < len(CONVEX))
                is_first = coarser is None and i == 0
                if not is_first:
                    scene = scene.seen(level.grid.light(points))
                brightness = level.brightness(scene.weight)
                slope = s * brightness
                if not is_convex:
                    slope = (slope - brightness.square() * points).clamp(min=0)
                moved = level.inside.expand_as(points) if is_first else (points > 0).to(points)
                points = _descended(level, scene, points, slope, steps, moved)
        last = levels[-1]
        scene = scene.seen(last.grid.light(points))
        near = functional.max_pool2d(points, 3, 1, 1) > 0
        points = _descended(last, scene, points, torch.zeros_like(points), SETTLED, near * last.inside)
        return points, scene.seen(last.grid.light(points))

    def _listed(self, points: Tensor, level: _Level, scene: _Scene, reach: int, frames: Frames) -> Localizations:
        """Join the points of each hill and list them; ``frames`` begins with the frame of the first points."""
        (rows, columns), u, half = level.grid.shape, level.grid.upsampling, level.grid.half_px
        top, hill = hills(points, reach)
        at = torch.nonzero(points.flatten())[:, 0]
        where = torch.stack(((at // columns % rows + 0.5) / u - half, (at % columns + 0.5) / u - half), 1).double()
        light = points.flatten()[at].double()
        photons = light.new_zeros(len(top)).index_add_(0, hill, light)
        place = where.new_zeros(len(top), 2).index_add_(0, hill, where * light[:, None]) / photons[:, None]
        brightness = level.brightness(scene.weight).expand_as(points).flatten()[top].double()
        found = Spots(top // (rows * columns), place, photons, brightness).joined(
            level.width_px, SPLIT * self.settings.significance
        )
        size = place.new_tensor(frames.shape_px)
        found = found.select(
            (found.significance >= self.settings.significance) & ((found.place >= 0) & (found.place <= size)).all(1)
        )
        y, x = found.place.unbind(1)
        pixel = torch.minimum(found.place, size - 1).long()
        columns_found = {
            "frame": found.frame + frames.first_frame,
            "x_nm": (x + frames.origin_px[1]) * frames.pixel_size_nm[1],
            "y_nm": (y + frames.origin_px[0]) * frames.pixel_size_nm[0],
            "photons": found.photons,
            "background": scene.background.mean(1)[found.frame, pixel[:, 0], pixel[:, 1]],
        }
        return Localizations({name: values.cpu().numpy().astype(np.float64) for name, values in columns_found.items()})


@dataclass(frozen=True, eq=False)
class _Scene:
    """Frames with what is believed of them; all (n, planes, h, w) or broadcastable.

    Args:
        light: photons of the frames.
        told: background in photons as it was told.
        background: the present one, ``told`` and a constant of each frame and plane.
        weight: 1 / variance of the pixels.
        noise: variance of the camera's own noise.
        excess: variance of the shot noise per photon.
    """

    light: Tensor
    told: Tensor
    background: Tensor
    weight: Tensor
    noise: Tensor
    excess: float

    def constant(self, image: Tensor) -> Tensor:
        """Give the constant of each frame and plane that is nearest to an image, (n, planes, 1, 1)."""
        total = self.weight.sum((2, 3), keepdim=True).clamp(min=1e-12)
        return (self.weight * image).sum((2, 3), keepdim=True) / total

    def less_constant(self, image: Tensor) -> Tensor:
        """Take that constant away: the background follows the light at each step."""
        return image - self.constant(image)

    def seen(self, light: Tensor) -> _Scene:
        """Give the scene with the background that fits best beside the light of the points, and the noise of both."""
        background = self.told + self.constant(self.light - light - self.told)
        expected = torch.maximum(light + background, LEAST_LIGHT * self.told)
        return replace(self, background=background, weight=1 / (self.excess * expected + self.noise))


def _scene(frames: Frames, part: slice, conditions: Any) -> _Scene:
    """Take frames of a block, with the noise of their own light, smoothed."""
    light = frames.photons[part]
    told = (
        light.new_full((1, 1, 1, 1), conditions.background)
        if frames.background is None
        else frames.background.to(light)[None, None]
    )
    told = told.clamp(min=DARKEST).expand(1, 1, *light.shape[2:])
    noise = light.new_full((1, 1, 1, 1), conditions.noise_variance)
    if frames.variance is not None:
        variance = frames.variance
        noise = variance[part] if variance.ndim == 4 and len(variance) > 1 else variance.expand(1, *light.shape[1:])
    smooth = functional.avg_pool2d(light, 3, 1, 1, count_include_pad=False)
    weight = 1 / (conditions.excess * torch.maximum(smooth, told) + noise)
    return _Scene(light, told, told.expand_as(light), weight, noise, conditions.excess)


@dataclass(frozen=True, eq=False)
class _Level:
    """One grid.

    Args:
        grid: light of the points on the pixels.
        squares: the same with the images of the points squared.
        inside: (rows, columns) which points shine enough on the frame, 1 or 0.
        width_px: width of the PSF.
    """

    grid: FineGrid
    squares: FineGrid
    inside: Tensor
    width_px: float

    @classmethod
    def of(cls, images: Tensor, shape_px: tuple[int, int], upsampling: int, width_px: float) -> _Level:
        """Make the grid of a PSF, drawn as by `fine_images`."""
        grid, squares = (FineGrid(images**power, shape_px, upsampling) for power in (1, 2))
        share = squares.gather(images.new_ones(1, len(images), *shape_px))[0]
        whole = images.square().sum() / upsampling**2  # the mean over the places within a pixel
        return cls(grid, squares, (share > LEAST_INSIDE * whole).to(images), width_px)

    def brightness(self, weight: Tensor) -> Tensor:
        """Give a, the height of points of one photon over their own noise, (n, rows, columns)."""
        return self.squares.gather(weight).clamp(min=1e-12).sqrt()

    def refined(self, points: Tensor, coarser: _Level) -> Tensor:
        """Share the light of points on a coarser grid among those that stand in their places."""
        factor = self.grid.upsampling // coarser.grid.upsampling
        spread = points.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        return spread * self.inside / factor**2


def _descended(level: _Level, scene: _Scene, points: Tensor, slope: Tensor, steps: int, moved: Tensor) -> Tensor:
    """Walk down ``sum w (d - b - A x)^2 / 2 + sum slope x`` by FISTA, with b the best constant.

    Args:
        level: the grid.
        scene: the frames.
        points: (n, rows, columns) where to begin.
        slope: (n, rows, columns) weights of the l1 norm.
        steps: how many.
        moved: (n, rows, columns) 1 for points that may shine, 0 for those that stay dark.
    """
    grid, weight = level.grid, scene.weight
    # The sum of a row of A^T w A over the points that move bounds its curvature (De Pierro, IEEE Trans. Med. Imaging 14 (1995) 132).
    step = moved / grid.gather(weight * grid.light(moved)).clamp(min=1e-12)
    fall = slope * step
    rest = scene.light - scene.told
    before, ahead, inertia = points, points.clone(), 1.0
    for _ in range(steps):
        lacking = scene.less_constant(rest - grid.light(ahead))
        after = grid.gather(weight * lacking)
        after.mul_(step).add_(ahead).sub_(fall).clamp_(min=0)
        following = (1 + math.sqrt(1 + 4 * inertia**2)) / 2
        torch.lerp(before, after, 1 + (inertia - 1) / following, out=ahead)
        before, inertia = after, following
    return before
