"""How a PSF meets windows: what of it is free in a fit, and its score against the pixels.

Parameters of a spot stand in the order x, y (px, pixel centres on the integers of the window), [depth in nm, factor on the width, factors on the
widths along x and y, or the l, p, q of `rotated`], photons, background. An emitter may lie off the middle of its window: its position is split
into a pixel and a fraction in -0.5 .. 0.5, the PSF is drawn for the fraction and its patch is moved by whole pixels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..kernels.spot_score import naive, score, score_aligned
from ..optics import PSF, AstigmaticPSF, GaussianPSF
from ..optics.base import gaussian_width
from . import rotated
from .noise import Noise

Third = Literal["depth", "width", "widths", "rotated"]
"""What is found besides x and y; "widths" are two, along x and y; "rotated" two along axes at any angle."""

STEPS = {torch.float32: (0.02, 4.0, 4e-3), torch.float64: (1e-4, 1e-2, 1e-5)}
"""Steps of differences: px, nm of depth, and of the factor on the width."""

DEPTHS_NM = (-750.0, 750.0)
"""Depths searched where neither the PSF nor the caller says which."""

FOCUS_STEPS = 151  # depths among which the sharpest is sought
CACHE = 1 << 18  # numbers
LANES = 16  # spots are drawn in multiples of this, so that a spot's result does not depend on how many stand beside it


def frozen(psf: PSF, dtype: torch.dtype, device: torch.device | str) -> PSF:
    """Copy a PSF for evaluation: no gradients by its own parameters."""
    return copy.deepcopy(psf).requires_grad_(False).to(device=device, dtype=dtype)


def number_type(psf: PSF) -> Tensor:
    """Give an empty tensor of the number type and on the device in which a PSF is drawn."""
    for values in (*psf.parameters(), *psf.buffers()):
        if values.is_floating_point():
            return values.new_zeros(0)
    return torch.zeros(0)


def patches(
    psf: PSF, offset_px: Tensor, third: Tensor, kind: Third | None, place_nm: Tensor | None = None, focus_nm: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Draw emitters with the derivatives by all free coordinates.

    A PSF with derivatives of its own gives them. Those of the others are central differences, good to 1e-4 in single and 1e-8 in double
    precision: forward-mode automatic derivatives of the formulas take ten times as long.

    Args:
        psf: as `frozen` gives it.
        offset_px: (n, 2) in -0.5 .. 0.5.
        third: (n,) depth or factor on the width; without a kind, the depth at which they are drawn.
        kind: what the third coordinate is, None if there is none.
        place_nm: (n, 2) places (x, y) in the field, for a PSF that varies there.
        focus_nm: depth at which a PSF of free width is drawn.

    Returns:
        (n, planes, k, k) and (n, 2 or 3, planes, k, k).
    """
    if kind != "width" and has_derivatives(psf):
        with torch.inference_mode(False), torch.enable_grad():  # they may be automatic ones
            values, slopes = psf.with_derivatives(offset_px.clone(), third.clone(), place_nm)
        return values.detach(), slopes.detach() if kind == "depth" else slopes[:, :2].detach()
    at = torch.cat((offset_px, third[:, None]), 1)
    lateral, depth, factor = STEPS[at.dtype]
    steps = torch.diag(at.new_tensor((lateral, lateral, factor if kind == "width" else depth)))[: 3 if kind else 2]
    moves = torch.cat((torch.zeros_like(steps[:1]), steps, -steps))
    pixel = at.new_tensor(psf.pixel_size_nm[::-1])
    places = None if place_nm is None else (place_nm + moves[:, None, :2] * pixel).flatten(0, 1)
    drawn = draw(psf, (at + moves[:, None]).flatten(0, 1), kind, places, focus_nm).unflatten(0, (len(moves), len(at)))
    ahead, behind = drawn[1:].chunk(2)
    size = 2 * steps.amax(1)[:, None, None, None, None]
    return drawn[0], ((ahead - behind) / size).transpose(0, 1)


@torch.no_grad()
def draw(psf: PSF, at: Tensor, kind: Third | None, place_nm: Tensor | None = None, focus_nm: float = 0.0) -> Tensor:
    """Draw emitters at (n, 3) x, y in px and depth or factor on the width: (n, planes, k, k)."""
    if kind == "width":
        return psf(at[:, :2], torch.full_like(at[:, 2], focus_nm), at[:, 2], place_nm)
    return psf(at[:, :2], at[:, 2], None, place_nm)


@torch.no_grad()
def focus_of(psf: PSF) -> float:
    """Give the depth in nm at which a PSF is sharpest; 0 for one that does not change with depth."""
    z = torch.linspace(*(psf.z_range_nm or DEPTHS_NM), FOCUS_STEPS).to(number_type(psf))
    sharpness = psf(z.new_zeros(len(z), 2), z).square().sum((1, 2, 3))
    return float(z[sharpness.argmax()]) if float(sharpness.max() / sharpness.min()) > 1.001 else 0.0


def has_derivatives(psf: PSF) -> bool:
    """Whether a PSF knows its derivatives better than automatically."""
    return type(psf).with_derivatives is not PSF.with_derivatives


def split(position_px: Tensor) -> tuple[Tensor, Tensor]:
    """Split positions (..., 2) into whole pixels (int64) and fractions in -0.5 .. 0.5."""
    whole = position_px.round()
    return whole.long(), position_px - whole


@dataclass(frozen=True)
class SpotPixels:
    """Pixels to be explained.

    Args:
        counts: (n, planes, h, w) as `Noise.counts` gives them; NaN where there is no pixel.
        dark: (n or 1, planes, h, w) mean counts without light.
        gain: mean counts per photon.
    """

    counts: Tensor
    dark: Tensor
    gain: float

    @classmethod
    def of(cls, photons: Tensor, noise: Noise) -> SpotPixels:
        """Make windows of photons (n, planes, h, w)."""
        return cls(noise.counts(photons).contiguous(), noise.dark(photons).contiguous(), noise.gain)

    @property
    def shape_px(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.counts.shape[-2], self.counts.shape[-1]


class Drawing:
    """A PSF with its free coordinates.

    Args:
        psf: any PSF.
        third: what is found besides x and y, None for nothing.
        like: a tensor whose number type and device are used.
        origin_nm: (n, 2) places (x, y) of the windows' outer corners in the field, for a PSF that varies there; None for its middle.
    """

    def __init__(self, psf: PSF, third: Third | None, like: Tensor, origin_nm: Tensor | None = None) -> None:
        self.psf = frozen(psf, like.dtype, like.device)
        self.third: Third | None = third
        self.n_coordinates = {None: 2, "depth": 3, "width": 3, "widths": 4, "rotated": 5}[third]
        self.focus_nm = focus_of(self.psf) if third in ("width", "widths") else 0.0
        self.origin_nm = origin_nm if psf.varies_in_field else None
        is_gaussian = psf.maps is None and type(psf) in (GaussianPSF, AstigmaticPSF)
        lies_along = not isinstance(psf, AstigmaticPSF) or float(psf.angle_deg.detach()) == 0
        self.is_aligned = is_gaussian and lies_along and third != "rotated"
        if third == "widths" and not self.is_aligned:
            raise ValueError(
                f"widths along x and y of {type(psf).__name__}; they can be found for Gaussians that lie along the pixels and "
                "carry no maps, so find one width, or give another PSF"
            )
        if third == "rotated" and not is_gaussian:
            raise ValueError(f"two widths and an angle of {type(psf).__name__}; they can be found for Gaussians that carry no maps")

    @property
    def batch(self) -> int:
        """Spots that are best drawn at once: as many as stay in the cache."""
        numbers = 64 if self.is_aligned else 7 * self.psf.planes * self.psf.roi_px**2
        return min(1024, max(64, CACHE // numbers // LANES * LANES))

    def score(self, windows: SpotPixels, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score spots (m, p) against windows ``which`` (m,); objective, gradient and Fisher matrix as in kernels/spot_score.

        There is no kernel for two widths and an angle: `terms.likelihood` does it.
        """
        photons, background = at[:, self.n_coordinates], at[:, self.n_coordinates + 1 :]
        if self.is_aligned:
            width, growth = self._widths(at)
            return score_aligned(
                windows.counts, windows.dark, which, at[:, :2], width, growth, photons, background, windows.gain, self.n_coordinates
            )
        whole, part = split(at[:, :2])
        padded = self._in_lanes(torch.cat((part, self._third_of(at)[:, None]), 1))
        places = self._places(which, at)
        values, slopes = (
            drawn[: len(at)] for drawn in patches(self.psf, padded[:, :2], padded[:, 2], self.third, places, self.focus_nm)
        )
        return score(
            windows.counts, windows.dark, which, values, slopes, whole[:, 1], whole[:, 0], photons, background, windows.gain
        )

    def fractions(self, which: Tensor, at: Tensor, shape_px: tuple[int, int]) -> Tensor:
        """Draw spots (m, p) into windows ``which`` (m,): (m, planes, h, w) fractions of their photons."""
        if self.third == "rotated":
            return self._rotated(at, shape_px)[0]
        if self.third == "widths":
            return naive.drawn_aligned(at[:, :2], self._widths(at)[0], shape_px)
        whole, part = split(at[:, :2])
        n = len(at)
        padded = self._in_lanes(torch.cat((part, self._third_of(at)[:, None]), 1))
        return naive.placed(
            draw(self.psf, padded, self.third, self._places(which, at), self.focus_nm)[:n], whole[:, 1], whole[:, 0], shape_px
        )

    def images(self, which: Tensor, at: Tensor, shape_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Draw spots (m, p) as `fractions` does, with the derivatives (m, d, planes, h, w) by the d coordinates; float64."""
        if self.third == "rotated":
            return self._rotated(at, shape_px)
        if self.is_aligned:
            width, growth = self._widths(at)
            values, slopes = _aligned(torch.cat((at[:, :2], width), 1), shape_px)
            lateral, grown = slopes[:, :2], growth[:, :, None, None, None] * slopes[:, 2:]
            grown = grown if self.third == "widths" else grown.sum(1, keepdim=True)
            return values, torch.cat((lateral, grown), 1)[:, : self.n_coordinates]
        whole, part = split(at[:, :2])
        padded = self._in_lanes(torch.cat((part, self._third_of(at)[:, None]), 1))
        both = patches(self.psf, padded[:, :2], padded[:, 2], self.third, self._places(which, at), self.focus_nm)
        values, slopes = (naive.placed(one[: len(at)].double(), whole[:, 1], whole[:, 0], shape_px) for one in both)
        return values, slopes

    def _rotated(self, at: Tensor, shape_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return rotated.drawn(at[:, :5].double(), self.psf.settings.width_in_focus_nm(), self.psf.pixel_size_nm, shape_px)

    def _places(self, which: Tensor, at: Tensor) -> Tensor | None:
        """Give the places (x, y) in the field of spots (m, p), filled up to full lanes, where the PSF asks for them."""
        if self.origin_nm is None:
            return None
        pixel = torch.tensor(self.psf.pixel_size_nm[::-1], dtype=at.dtype, device=at.device)
        return self._in_lanes(self.origin_nm.to(at)[which] + (at[:, :2] + 0.5) * pixel)

    def _third_of(self, at: Tensor) -> Tensor:
        return at[:, 2] if self.third else torch.zeros_like(at[:, 0])

    def _in_lanes(self, at: Tensor) -> Tensor:
        """Fill coordinates (n, c) up to full lanes, in the number type in which the PSF is drawn."""
        more = -len(at) % LANES if len(at) else 0
        return torch.cat((at, at[-1:].expand(more, -1))).to(number_type(self.psf))

    def _widths(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Give the widths along x and y in px, and their derivatives by the third coordinate: (m, 2) each."""
        third = at[:, 2] if self.third else torch.zeros_like(at[:, 0])
        pixel = torch.tensor(self.psf.pixel_size_nm[::-1], dtype=at.dtype, device=at.device)
        if self.third in ("width", "widths"):
            growth = self.widths_nm(torch.full_like(third, self.focus_nm)) / pixel
            return growth * at[:, 2 : self.n_coordinates], growth
        width = self.widths_nm(third) / pixel
        if self.third is None:
            return width, torch.zeros_like(width)
        step = STEPS[torch.float64][1]
        return width, (self.widths_nm(third + step) - self.widths_nm(third - step)) / (2 * step * pixel)

    @torch.no_grad()
    def widths_nm(self, z_nm: Tensor) -> Tensor:
        """Give the widths of an aligned PSF along x and y at depths (m,): (m, 2)."""
        psf = self.psf
        if isinstance(psf, AstigmaticPSF):
            return torch.stack(psf.widths_nm(z_nm), 1)
        assert isinstance(psf, GaussianPSF)
        width = psf.width_nm.expand_as(z_nm)
        if psf.depth_nm is not None:
            width = gaussian_width(z_nm, psf.width_nm, psf.focus_nm, psf.depth_nm)
        return torch.stack((width, width), 1).to(z_nm.dtype)


def _aligned(at: Tensor, shape_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Draw aligned Gaussians at (m, 4) x, y and widths along them in px, with the derivatives (m, 4, 1, h, w) by each, as differences."""
    steps = STEPS[torch.float64][2] * torch.eye(4, dtype=at.dtype, device=at.device)
    there = (at + torch.cat((torch.zeros_like(steps[:1]), steps, -steps))[:, None]).flatten(0, 1)
    drawn = naive.drawn_aligned(there[:, :2], there[:, 2:], shape_px).unflatten(0, (9, len(at)))
    return drawn[0], ((drawn[1:5] - drawn[5:]) / (2 * STEPS[torch.float64][2])).transpose(0, 1)
