"""Single-emitter fits: local maxima of a matched filter, and the fit of one emitter around each, by maximum likelihood or least squares.

The classical method for molecules that do not overlap; level with the Cramer-Rao bound there. The filter is the least-squares estimate of the
photons of an emitter on each pixel, with the background of the window around it, over its own standard deviation.

Source: Smith, Joseph, Rieger, Lidke, Nature Methods 7 (2010) 373 (maximum likelihood at the bound); Huang et al., Nature Methods 10 (2013) 653
(pixels with noise of their own).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from ..data import COLUMNS, Frames, Localizations
from ..errors import ModelError
from ..fit import Noise, SingleFits, fit_single
from ..fit.drawing import Drawing, number_type
from ..fit.single import third_of
from ..fit.start import depth_starts
from ..optics import PSF, PSFSettings
from ..units import PixelSize
from .base import Scales
from .fitting import Fitting, WindowedSettings, width_in_px

GHOST = 0.3  # correlation from which on a side maximum counts
LIGHT = 0.97  # of an emitter's squared brightness that a window is to hold
CLOSE = 4.0  # widths of the PSF within which two emitters disturb each other's fit
AT_ONCE = 1 << 15  # windows that are fitted at once


class SingleSettings(WindowedSettings):
    """``[localizer] kind = "single"``."""

    kind: Literal["single"] = "single"
    free_width: bool | Literal["xy", "rotated"] = Field(
        False,
        description="find the width of each emitter, in place of its depth: one, one along x and one along y, or two along axes at any angle",
    )
    estimator: Literal["likelihood", "least_squares"] = Field(
        "likelihood", description="what is sought: the likeliest parameters, or those of the least squares, with all pixels alike"
    )
    unbiased: bool = Field(
        False, description="take away what the likeliest values err in the mean: dim emitters come out a little too bright; slower"
    )
    significance: float = Field(5.0, gt=0, description="least height of a maximum over the noise of its filter")
    least_p_value: float = Field(0.0, ge=0, lt=1, description="leave out fits whose image agrees worse with the model; 0 keeps all")

    @model_validator(mode="after")
    def _bias_of_likelihood(self) -> SingleSettings:
        if self.unbiased and self.estimator != "likelihood":
            raise ValueError("unbiased corrects the likeliest values; leave it out with estimator 'least_squares'")
        return self

    def densest_per_um2(self, width_nm: float) -> float:
        """Give the density at which half of the emitters have another within `CLOSE` widths, where one fit serves both or is led astray."""
        return math.log(2) / (math.pi * (1e-3 * CLOSE * width_nm) ** 2)

    def build(self, scales: Scales) -> Single:
        """Make the localizer; it needs no training."""
        return Single(self, scales)


class Single(Fitting):
    """Finds maxima and fits one emitter to each. It knows no probability, so that no threshold on it applies."""

    settings: SingleSettings

    def __init__(self, settings: SingleSettings, scales: Scales) -> None:
        super().__init__(settings, scales)
        if isinstance(settings.free_width, str):
            psf = self.psf_settings(scales.pixel_size_nm).build(scales.pixel_size_nm)
            try:
                Drawing(psf, third_of(psf, None, settings.free_width), torch.zeros(0))
            except ValueError as error:
                raise ModelError(f"free_width '{settings.free_width}': {error}") from None

    def patch_px(self) -> int:
        """Give the pixels across a Gaussian that nobody gave: a window, from wherever a fit may go."""
        return 2 * (window_for_width(self.conditions.width_px) // 2 + self._reach) + 1

    @property
    def finds_depth(self) -> bool:
        """Whether z is found."""
        return super().finds_depth and not self.settings.free_width

    @property
    def _reach(self) -> int:
        """Pixels around a maximum in which there is no other one, and which its fit must not leave."""
        told: PSFSettings | None = self.settings.psf
        width = self.conditions.width_px
        if told is not None:
            width = told.width_in_focus_nm() / math.sqrt(self.scales.pixel_size_nm[0] * self.scales.pixel_size_nm[1])
        return max(1, math.ceil(1.5 * width))

    @torch.no_grad()
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize; see `Localizer.forward`. Frames are filtered one by one, whole, so that tiles have no meaning here.

        Raises:
            ModelError: a threshold was set, or the PSF has another number of planes than the frames.
        """
        part, psf = self.part_of(frames, keep), self.psf_for(frames)
        depths = depth_starts(psf, self.settings.depths_of(psf, self.scales)) if self.finds_depth else torch.zeros(1)
        size = self.settings.window_px or window_for(psf, depths)
        peaks = self._peaks(frames, part, psf, depths, size)
        parts = [self._fit(frames, peaks[i : i + AT_ONCE], psf, size) for i in range(0, max(1, len(peaks)), AT_ONCE)]
        return Localizations.concat(parts).sort()

    def _peaks(self, frames: Frames, part: tuple[int, int], psf: PSF, depths: Tensor, size: int) -> Tensor:
        """Find the maxima of frames ``part``: (n, 3) index of the frame, row, column."""
        matched = Matched(psf, depths, size, frames, Noise(self.conditions.excess, self.conditions.noise_variance))
        distance = max(self._reach, ghosts(psf, depths))
        found = [torch.zeros(0, 3, dtype=torch.long, device=frames.photons.device)]
        for index in range(*part):
            places = maxima(matched.significance(index), self.settings.significance, distance)
            found.append(torch.cat((torch.full_like(places[:, :1], index), places), 1))
        return torch.cat(found)

    def _fit(self, frames: Frames, peaks: Tensor, psf: PSF, size: int) -> Localizations:
        """Fit one emitter around each peak and give those that can be believed."""
        variance = self.conditions.noise_variance if frames.variance is None else frames.variance
        if isinstance(variance, Tensor):
            variance = windows(variance.expand(frames.photons.shape), peaks, size, fill=0.0)
        corner = peaks[:, 1:] - size // 2 + torch.tensor(frames.origin_px, device=peaks.device)
        fits = fit_single(
            psf,
            windows(frames.photons, peaks, size),
            excess=self.conditions.excess,
            noise_variance=variance,
            depth=self.finds_depth,
            free_width=self.settings.free_width,
            estimator=self.settings.estimator,
            unbiased=self.settings.unbiased,
            z_range_nm=self.settings.depths_of(psf, self.scales),
            reach_px=self._reach + 0.5,
            origin_nm=corner.flip(1) * torch.tensor(frames.pixel_size_nm[::-1], device=peaks.device),
        )
        good = fits.converged & (fits.p_value >= self.settings.least_p_value) & _inside(fits, corner, frames)
        return _to_localizations(fits, peaks[:, 0] + frames.first_frame, corner, good, frames.pixel_size_nm)


def _inside(fits: SingleFits, corner_px: Tensor, frames: Frames) -> Tensor:
    """Say which fits lie on the pixels of the frames, and not beside them."""
    inside = torch.ones(len(fits), dtype=torch.bool, device=corner_px.device)
    for axis, name in ((0, "y_nm"), (1, "x_nm")):
        at = fits[name] / frames.pixel_size_nm[axis] + corner_px[:, axis] - frames.origin_px[axis]
        inside &= (at >= 0) & (at <= frames.photons.shape[2 + axis])
    return inside


def _to_localizations(fits: SingleFits, frame: Tensor, corner_px: Tensor, good: Tensor, pixel_size_nm: PixelSize) -> Localizations:
    """Give the good fits as a table; ``corner_px`` (n, 2) is the row and column of each window's first pixel in the field."""
    columns = {"frame": frame, "log_likelihood": fits.log_likelihood}
    for name in fits.names:
        if name.startswith("background"):
            continue
        columns[name] = fits[name]
        if f"sigma_{name}" in COLUMNS:
            columns[f"sigma_{name}"] = fits.sigma(name)
        if name in ("x_nm", "y_nm", "z_nm"):
            columns[f"crlb_{name}"] = fits.crlb(name)
    columns["x_nm"] = columns["x_nm"] + corner_px[:, 1] * pixel_size_nm[1]
    columns["y_nm"] = columns["y_nm"] + corner_px[:, 0] * pixel_size_nm[0]
    lights = [fits[name] for name in fits.names if name.startswith("background")]
    columns["background"] = torch.stack(lights, 1).mean(1)
    return Localizations({name: values[good].cpu().numpy().astype(np.float64) for name, values in columns.items()})


# --------------------------------------------------------------------------------------------------------------------- detection


class Matched:
    """The significance of an emitter on each pixel of the frames.

    On the window around a pixel, light is background plus photons times the PSF's image there. With ``k`` the image less its mean over the
    window (and plane), the least-squares photons are ``sum k d / sum k^2``, and their variance without the emitter
    ``sum k^2 (excess b + v) / (sum k^2)^2`` with the background b left by the same fit. Few photons scatter upwards more than downwards: the ratio
    is read as that of a Poisson number with this skewness, and the significance is the root of its deviance. Windows that reach over the border
    count the pixels that are there. Of several depths the most significant one counts.
    """

    def __init__(self, psf: PSF, depths: Tensor, size: int, frames: Frames, noise: Noise) -> None:
        self.frames, self.noise, self.size = frames, noise, size
        z = depths.to(number_type(psf))
        images = _centre(psf(z.new_zeros(len(z), 2), z), size).to(frames.photons).transpose(0, 1)  # (planes, depths, k, k)
        self.kernels = torch.cat((images, torch.ones_like(images[:, :1])), 1)
        there = torch.ones_like(frames.photons[0, :1])
        self.one = torch.stack([self._filter(there[0], kernel) for kernel in self.kernels])  # (planes, depths + 1, h, w)
        square, cube = (torch.stack([self._filter(there[0], kernel[:-1] ** power) for kernel in self.kernels]) for power in (2, 3))
        self.mean = self.one[:, :-1] / self.one[:, -1:]
        self.contrast = (square - self.mean * self.one[:, :-1]).clamp(min=0)
        self.third = cube - 3 * self.mean * square + 2 * self.mean**2 * self.one[:, :-1]
        told = frames.variance
        self.is_static = told is None or told.ndim < 4 or len(told) == 1
        self.variance: Tensor | float = noise.variance
        if told is not None and self.is_static:
            self.variance = self._spread(told.expand(1, *frames.photons.shape[1:])[0])

    def significance(self, index: int) -> Tensor:
        """Give the significance in one frame, (h, w)."""
        light = filled(self.frames.photons[index])
        level = light.mean((1, 2), keepdim=True)  # taken away first: sums of small numbers keep their digits
        sums = torch.stack([self._filter(image, kernel) for image, kernel in zip(light - level, self.kernels, strict=True)])
        score = (sums[:, :-1] - self.mean * sums[:, -1:]).sum(0)
        photons = score / self.contrast.sum(0).clamp(min=1e-12)
        background = (sums[:, -1:] - photons.clamp(min=0) * self.one[:, :-1]) / self.one[:, -1:] + level[:, None]
        camera = self.variance
        if not self.is_static:
            assert self.frames.variance is not None
            camera = self._spread(self.frames.variance[index])
        elif not isinstance(camera, Tensor):
            camera = camera * self.contrast
        dark = background.clamp(min=LEAST_LIGHT)
        noise = (self.noise.excess * dark * self.contrast + camera).sum(0).clamp(min=1e-12)
        third = self.noise.excess**2 * (1.5 if self.noise.is_amplified else 1.0) * dark * self.third
        skew = third.sum(0).clamp(min=0) / noise**1.5
        return _as_normal(score / noise.sqrt(), skew).amax(0)

    def _spread(self, variance: Tensor) -> Tensor:
        """Give ``sum k^2 v`` of the camera's noise (planes, h, w): (planes, depths, h, w)."""
        spread = []
        for image, kernel, mean in zip(variance, self.kernels, self.mean, strict=True):
            plain = self._filter(image, kernel)
            spread.append(self._filter(image, kernel[:-1] ** 2) - 2 * mean * plain[:-1] + mean**2 * plain[-1:])
        return torch.stack(spread)

    def _filter(self, image: Tensor, kernels: Tensor) -> Tensor:
        """Correlate an image (h, w) with kernels (c, k, k); pixels outside count as 0."""
        return functional.conv2d(image[None, None], kernels[:, None], padding=self.size // 2)[0]


def filled(photons: Tensor) -> Tensor:
    """Give pixels that tell nothing (NaN) the brightest value there is: they are full, and there is light."""
    absent = torch.isnan(photons)
    if not bool(absent.any()):
        return photons
    there = photons[~absent]
    return torch.where(absent, there.max() if len(there) else torch.zeros_like(photons[..., :1]), photons)


LEAST_LIGHT = 0.1  # photons per pixel: a darker background would make single photons significant


def _as_normal(ratio: Tensor, skew: Tensor) -> Tensor:
    """Turn deviations in standard deviations of a skew law into those of a normal law with equal tails, as if it were Poisson."""
    root = skew.clamp(min=1e-2)  # of the inverse mean of a Poisson number
    u = (ratio * root).clamp(min=0)
    return torch.where(ratio > 0, (2 * ((1 + u) * torch.log1p(u) - u)).clamp(min=0).sqrt() / root, ratio)


def ghosts(psf: PSF, depths: Tensor) -> int:
    """Give how far from an emitter one part of its image looks like another: the farthest side maximum of its images' correlations, in px."""
    z = depths.to(number_type(psf))
    images = psf(z.new_zeros(len(z), 2), z)
    images = images / images.square().sum((1, 2, 3), keepdim=True).sqrt()
    alike = functional.conv2d(images, images, padding=psf.roi_px - 1).flatten(0, 1)
    middle = psf.roi_px - 1
    places = torch.cat([maxima(one, GHOST, 1) for one in alike]) - middle
    farthest = int(places.abs().max()) if len(places) else 0
    return farthest + 1 if farthest > 0 else 0


def maxima(score: Tensor, least: float, distance: int) -> Tensor:
    """Find pixels above ``least`` that no pixel within ``distance`` rows and columns exceeds; of equal ones, the first in reading order.

    Returns:
        (n, 2) row, column in reading order.
    """
    h, w = score.shape
    d, side = distance, 2 * distance + 1
    padded = functional.pad(score[None, None], (d, d, d, d), value=-math.inf)
    lines = functional.max_pool2d(padded, (1, side), 1)[0, 0]  # (h + 2 d, w)
    above, below = (functional.max_pool2d(part[None, None], (d, 1), 1)[0, 0] for part in (lines[: h + d - 1], lines[d + 1 :]))
    row = padded[0, 0, d : d + h]
    left, right = (functional.max_pool2d(part[None, None], (1, d), 1)[0, 0] for part in (row[:, : w + d - 1], row[:, d + 1 :]))
    return torch.nonzero((score > least) & (score > above) & (score > left) & (score >= below) & (score >= right))


def windows(images: Tensor, peaks: Tensor, size: int, fill: float = math.nan) -> Tensor:
    """Cut windows around peaks (n, 3): (n, planes, size, size), with ``fill`` where there is no pixel."""
    half = size // 2
    steps = torch.arange(-half, half + 1, device=images.device)
    row, column = peaks[:, 1:2] + steps, peaks[:, 2:3] + steps
    h, w = images.shape[-2:]
    there = ((row >= 0) & (row < h))[:, :, None] & ((column >= 0) & (column < w))[:, None, :]
    rows, columns = row.clamp(0, h - 1)[:, None, :, None], column.clamp(0, w - 1)[:, None, None, :]
    plane = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    taken = images[peaks[:, 0, None, None, None], plane, rows, columns]
    return torch.where(there[:, None], taken, fill)


def window_for_width(width_px: float) -> int:
    """Give the odd window that holds a Gaussian: three widths to each side."""
    return min(65, max(7, 2 * math.ceil(3 * width_px) + 1))


def window_for(psf: PSF, depths: Tensor) -> int:
    """Give the odd window that holds nearly all that tells where an emitter is, at each of the depths."""
    z = depths.to(number_type(psf))
    images = psf(z.new_zeros(len(z), 2), z)
    whole = images.square().sum((1, 2, 3))
    least = window_for_width(width_in_px(psf))
    for size in range(min(least, psf.roi_px), min(psf.roi_px, 65), 2):
        if bool((_centre(images, size).square().sum((1, 2, 3)) >= LIGHT * whole).all()):
            return size
    return min(psf.roi_px, 65)


def _centre(images: Tensor, size: int) -> Tensor:
    """Take the middle of patches, or fill them up with zeros: (..., size, size)."""
    margin = (size - images.shape[-1]) // 2
    return functional.pad(images, (margin,) * 4)
