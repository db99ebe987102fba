"""One emitter in each window: position, depth, photons and background by maximum likelihood or least squares, with their bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..optics import PSF
from . import on_cpu, rotated, second_order, terms
from .deviance import deviance, expected_moments, p_value
from .drawing import DEPTHS_NM, Drawing, SpotPixels, Third
from .fisher import invert
from .levenberg import Climb, Limits, climb
from .noise import Noise
from .start import Masks, by_least_squares, by_moments, depth_starts, masks_of

LEAST_PHOTONS, LEAST_BACKGROUND = 1e-2, 1e-3
WIDTHS = (0.3, 4.0)  # factors on the width that are believed
LEANS = (-rotated.MOST_LEAN, rotated.MOST_LEAN)
FreeWidth = bool | Literal["xy", "rotated"]
Estimator = Literal["likelihood", "least_squares"]
THIRDS: dict[Third | None, tuple[str, ...]] = {
    None: (),
    "depth": ("z_nm",),
    "width": ("width_nm",),
    "widths": ("width_x_nm", "width_y_nm"),
    "rotated": ("width_x_nm", "width_y_nm", "angle_deg"),
}
Score = Callable[[SpotPixels, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(windows, which (m,), parameters (m, p)) -> objective, gradient, curvature, as `levenberg.Score`."""
CHUNK_PX = 1 << 20  # pixels that are held at once beside the windows themselves


@dataclass(frozen=True)
class SingleFits:
    """Estimates of n spots; all tensors have length n. Positions count from the outer corner of each window's pixel (0, 0).

    Args:
        names: the fitted parameters: x_nm, y_nm, [z_nm, width_nm, or width_x_nm and width_y_nm and, at any angle, angle_deg,] photons,
            background (or background_0, background_1, ... of the planes).
        values: (n, p) float64.
        covariance: (n, p, p) of the estimates; of the likeliest ones, the inverse of the Fisher matrix there.
        bound: (n, p, p) inverse of the Fisher matrix at the estimates.
        log_likelihood: of the Poisson counts of `noise`.
        deviance_ratio: deviance over its expectation; about 1 where the model holds.
        p_value: probability of a worse agreement if the model holds.
        iterations: evaluations of the best start.
        converged: at a maximum inside of the limits. The other rows hold where the search has stopped and must not be used.
    """

    names: tuple[str, ...]
    values: Tensor
    covariance: Tensor
    bound: Tensor
    log_likelihood: Tensor
    deviance_ratio: Tensor
    p_value: Tensor
    iterations: Tensor
    converged: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Tensor:
        return self.values[:, self.names.index(name)]

    def sigma(self, name: str) -> Tensor:
        """Give the standard deviation of a parameter, (n,)."""
        index = self.names.index(name)
        return self.covariance[:, index, index].sqrt()

    def crlb(self, name: str) -> Tensor:
        """Give the Cramer-Rao bound of a parameter as a standard deviation, (n,)."""
        index = self.names.index(name)
        return self.bound[:, index, index].sqrt()


def fit_single(
    psf: PSF,
    photons: Tensor,
    *,
    excess: float = 1.0,
    noise_variance: Tensor | float = 0.0,
    depth: bool | None = None,
    free_width: FreeWidth = False,
    estimator: Estimator = "likelihood",
    unbiased: bool = False,
    z_range_nm: tuple[float, float] | None = None,
    z_starts_nm: Tensor | None = None,
    start_nm: Tensor | None = None,
    origin_nm: Tensor | None = None,
    shared_background: bool = False,
    tries: int = 2,
    reach_px: float | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 50,
    dtype: torch.dtype = torch.float32,
) -> SingleFits:
    """Fit one emitter in each window.

    Args:
        psf: any PSF; its patch should reach over the window also from where the emitter lies (pixels outside of it count as without light).
        photons: (n, planes, h, w) or (n, h, w) windows; NaN where there is no pixel.
        excess, noise_variance: noise of the photons, ``excess mu + noise_variance``; the variance one number or broadcastable to the windows.
        depth: whether z is found; as the PSF's kind says if None.
        free_width: find the width instead of z; "xy" for one along x and one along y, of a Gaussian that lies along the pixels;
            "rotated" for two along axes at any angle: width_x_nm along the axis nearer to x, at angle_deg from +x towards +y.
        estimator: "least_squares" weighs all pixels alike and knows no noise but for the covariance and the p-value.
        unbiased: take away the bias of the likeliest values (see `second_order`), which counts for dim emitters; two to five times slower.
        z_range_nm: depths searched; those of the PSF if None.
        z_starts_nm: (s,) depths to begin with; chosen by the shape of the PSF if None.
        start_nm: (n, 2 or 3) x, y[, z] to begin with, in place of moments and depths.
        origin_nm: (n, 2) places (x, y) of the windows' outer corners in the field, for a PSF that varies there; its middle if None.
        shared_background: one background for all planes.
        tries: how many of the starts, the likeliest first, are followed; the best end is kept.
        reach_px: how far x and y may lie from the middle of the window; to its border if None.
        tolerance, max_iterations: of `levenberg.climb`.
        dtype: number type of the windows and the drawn PSF, float32 or float64; sums and parameters are always in double precision.

    Raises:
        ValueError: the windows do not suit the PSF.
    """
    photons = (photons[:, None] if photons.ndim == 3 else photons).to(dtype)
    if photons.ndim != 4 or photons.shape[1] != psf.planes:
        raise ValueError(f"windows of shape {tuple(photons.shape)}; expected (n, {psf.planes}, h, w) for this PSF")
    noise = Noise(excess, noise_variance)
    drawing = Drawing(psf, third_of(psf, depth, free_width), photons, origin_nm)
    z_range = z_range_nm or psf.z_range_nm or DEPTHS_NM
    depths = torch.zeros(1)
    if drawing.third == "depth":
        depths = depth_starts(drawing.psf, z_range) if z_starts_nm is None else z_starts_nm
    depths = depths.to(photons)
    places = None if start_nm is None else _given(drawing, start_nm.to(photons.device), depths)
    masks = masks_of(drawing.psf, depths, (photons.shape[2], photons.shape[3]))
    limits = _limits(drawing, photons, 1 if shared_background else psf.planes, z_range, reach_px)
    if estimator == "likelihood" and on_cpu.takes(drawing, photons):
        starts = masks if places is None else places
        found, covariance, sums = on_cpu.fit(
            drawing, photons, noise, starts, depths, limits, LEAST_PHOTONS, tries, tolerance, max_iterations
        )
        bound = covariance
    else:
        windows = SpotPixels.of(photons, noise)
        parts = [
            _starts(drawing, photons[some], some, depths, masks if places is None else places[some], shared_background)
            for some in _slices(photons)
        ]
        score = _score(drawing, estimator)
        found = _best(drawing, score, windows, torch.cat(parts), limits, tries, tolerance, max_iterations)
        every = torch.arange(len(photons), device=photons.device)
        covariance = bound = invert(found.fisher) if estimator == "likelihood" else torch.empty(0)
        sums = torch.cat([_agreement(drawing, windows, every[some], found.at[some], noise) for some in _slices(photons)])
        if estimator == "least_squares":
            spread = [terms.spread(drawing, windows, every[some], found.at[some]) for some in _batches(drawing, len(photons))]
            covariance, bound, more = (torch.cat(part) for part in zip(*spread, strict=True))
            sums[:, 2] += more
    if unbiased and estimator == "likelihood":
        found = _without_bias(drawing, SpotPixels.of(photons, noise), found, covariance, limits)
    return _finish(drawing, found, covariance, bound, sums, limits)


def _without_bias(drawing: Drawing, windows: SpotPixels, found: Climb, covariance: Tensor, limits: Limits) -> Climb:
    """Move the ends that have converged by what they err in the mean, but for those that would come to a limit."""
    inside = found.converged & ~_at_limit(found.at, limits, drawing.n_coordinates)
    moved = found.at.clone()
    for which in inside.nonzero()[:, 0].split(drawing.batch):
        away = second_order.bias(drawing, windows, which, found.at[which], covariance[which])
        to = found.at[which] - away
        stays = _at_limit(to, limits, drawing.n_coordinates) | (to <= limits.low).any(1)
        moved[which] = torch.where(stays[:, None], found.at[which], to)
    return replace(found, at=moved)


def third_of(psf: PSF, depth: bool | None, free_width: FreeWidth) -> Third | None:
    """Say what is found besides x and y; arguments as for `fit_single`."""
    if isinstance(free_width, str):
        return "widths" if free_width == "xy" else "rotated"
    if free_width:
        return "width"
    return "depth" if (psf.settings.tells_depth if depth is None else depth) else None


def _score(drawing: Drawing, estimator: Estimator) -> Score:
    """Choose what is to be climbed."""
    if estimator == "least_squares":
        return partial(terms.squares, drawing)
    return partial(terms.likelihood, drawing) if drawing.third == "rotated" else drawing.score


def _batches(drawing: Drawing, n: int) -> list[slice]:
    """Cut n spots into parts that are best drawn at once; at least one, which may be empty."""
    return [slice(i, i + drawing.batch) for i in range(0, max(1, n), drawing.batch)]


def _slices(windows: Tensor) -> list[slice]:
    """Cut windows (n, planes, h, w) into parts of a bearable number of pixels; at least one, which may be empty."""
    step = max(1, CHUNK_PX // max(1, windows.shape[1:].numel()))
    return [slice(i, i + step) for i in range(0, max(1, len(windows)), step)]


def _given(drawing: Drawing, start_nm: Tensor, depths: Tensor) -> Tensor:
    """Turn given positions (n, 2 or 3) in nm into coordinates (n, s, c) to begin with, at all depths where none is given."""
    pixel = torch.tensor(drawing.psf.pixel_size_nm[::-1], dtype=torch.float64, device=start_nm.device)
    lateral = start_nm[:, None, :2].double() / pixel - 0.5
    if drawing.third == "depth" and start_nm.shape[1] > 2:
        return torch.cat((lateral, start_nm[:, None, 2:3].double()), 2)
    return _with_third(drawing, lateral.expand(-1, len(depths), -1), depths)


def _with_third(drawing: Drawing, lateral: Tensor, depths: Tensor) -> Tensor:
    """Put the depths (s,), factors of 1 on the widths, or a round spot, beside positions (n, s, 2)."""
    if drawing.third is None:
        return lateral
    third = depths if drawing.third == "depth" else torch.full_like(depths, 0.0 if drawing.third == "rotated" else 1.0)
    more = third.to(lateral)[None, :, None].expand(len(lateral), -1, drawing.n_coordinates - 2)
    return torch.cat((lateral, more), 2)


def _starts(drawing: Drawing, photons: Tensor, some: slice, depths: Tensor, places: Tensor | Masks, shared: bool) -> Tensor:
    """Make start values (n, s, p): coordinates by moments unless they are given, photons and background by least squares."""
    if not isinstance(places, Tensor):
        places = _with_third(drawing, by_moments(places, photons).double(), depths)
    which = torch.arange(some.start, some.start + len(photons), device=photons.device)
    starts = []
    for at in places.unbind(1):
        bright, level = by_least_squares(drawing.fractions(which, at, (photons.shape[2], photons.shape[3])), photons, shared)
        starts.append(torch.cat((at, bright[:, None].double(), level.double()), 1))
    return torch.stack(starts, 1)


def _limits(drawing: Drawing, photons: Tensor, lights: int, z_range: tuple[float, float], reach_px: float | None) -> Limits:
    sides = photons.shape[3], photons.shape[2]
    middle = [(side - 1) // 2 for side in sides]
    reach = [side / 2 if reach_px is None else reach_px for side in sides]
    low = [m - r for m, r in zip(middle, reach, strict=True)]
    high = [m + r for m, r in zip(middle, reach, strict=True)]
    stride = [1.0, 1.0]
    if drawing.third == "rotated":
        low, high = ([*side, math.log(width), *[lean] * 2] for side, width, lean in zip((low, high), WIDTHS, LEANS, strict=True))
        stride += [0.3] * 3
    elif drawing.third:
        bounds = z_range if drawing.third == "depth" else WIDTHS
        more = drawing.n_coordinates - 2
        low, high = [*low, *[bounds[0]] * more], [*high, *[bounds[1]] * more]
        stride += [(z_range[1] - z_range[0]) / 5 if drawing.third == "depth" else 0.3] * more
    low += [LEAST_PHOTONS] + [LEAST_BACKGROUND] * lights
    high, stride = ([*values, *[float("inf")] * (1 + lights)] for values in (high, stride))
    return Limits(*(torch.tensor(v, dtype=torch.float64, device=photons.device) for v in (low, high, stride)))


def _best(
    drawing: Drawing,
    score: Score,
    windows: SpotPixels,
    starts: Tensor,
    limits: Limits,
    tries: int,
    tolerance: float,
    max_iterations: int,
) -> Climb:
    """Follow the likeliest starts (n, s, p) and keep the best end of each spot; ends that have not converged come last."""
    n, s, p = starts.shape
    followed = min(s, tries)
    if followed < s:
        every = torch.arange(n, device=starts.device)
        likely = [torch.cat([score(windows, every[i], starts[i, k])[0] for i in _batches(drawing, n)]) for k in range(s)]
        chosen = torch.stack(likely, 1).topk(followed, dim=1, largest=False).indices
        starts = starts.gather(1, chosen[:, :, None].expand(-1, -1, p))
    found = climb(
        lambda which, at: score(windows, which // followed, at),
        starts.reshape(-1, p).contiguous(),
        limits,
        tolerance=tolerance,
        max_iterations=max_iterations,
        batch=drawing.batch,
    )
    if followed == 1:
        return found
    inside = found.converged & ~_at_limit(found.at, limits, drawing.n_coordinates)
    rank = torch.where(inside, found.objective, found.objective + 1e12).reshape(n, followed)
    best = rank.nan_to_num(nan=float("inf")).argmin(1) + followed * torch.arange(n, device=starts.device)
    return Climb(*(getattr(found, name)[best] for name in ("at", "objective", "fisher", "iterations", "converged")))


def _at_limit(at: Tensor, limits: Limits, n_coordinates: int) -> Tensor:
    pressed = (at <= limits.low) | (at >= limits.high)
    return pressed[:, :n_coordinates].any(1) | (at[:, n_coordinates] <= LEAST_PHOTONS)


def _finish(drawing: Drawing, found: Climb, covariance: Tensor, bound: Tensor, sums: Tensor, limits: Limits) -> SingleFits:
    """Give the ends in nm, with the verdict of the sums (n, 4) of log-likelihood, deviance, its expectation and its variance."""
    p = found.at.shape[1]
    likelihood, deviances, expected, variance = sums.unbind(1)
    expected, variance = (expected - p).clamp(min=0.1), (variance - 2 * p).clamp(min=0.1)
    values, by_place = _in_nm(drawing, found.at)
    covariance, bound = (_carried(one, by_place) for one in (covariance, bound))
    lights = p - drawing.n_coordinates - 1
    background = ("background",) if lights == 1 else tuple(f"background_{k}" for k in range(lights))
    sound = torch.isfinite(covariance.diagonal(dim1=1, dim2=2)).all(1) & torch.isfinite(likelihood)
    return SingleFits(
        names=("x_nm", "y_nm", *THIRDS[drawing.third], "photons", *background),
        values=values,
        covariance=covariance,
        bound=bound,
        log_likelihood=likelihood,
        deviance_ratio=deviances / expected,
        p_value=p_value(deviances, expected, variance),
        iterations=found.iterations,
        converged=found.converged & sound & ~_at_limit(found.at, limits, drawing.n_coordinates),
    )


def _carried(covariance: Tensor, slopes: Tensor) -> Tensor:
    """Carry covariances (n, p, p) over to other parameters by their derivatives; what is not known stays infinite."""
    known = torch.isfinite(covariance).all(2, keepdim=True).all(1, keepdim=True)
    carried = slopes @ torch.where(known, covariance, 0.0) @ slopes.transpose(1, 2)
    return torch.where(known, carried, float("inf"))


def _in_nm(drawing: Drawing, at: Tensor) -> tuple[Tensor, Tensor]:
    """Give the parameters (n, p) in the units of `SingleFits`, and their derivatives (n or 1, p, p) by those of the fit."""
    pixel, p = drawing.psf.pixel_size_nm, at.shape[1]
    units = torch.ones(p, dtype=torch.float64, device=at.device)
    units[0], units[1] = pixel[1], pixel[0]
    if drawing.third == "width":
        units[2] = drawing.psf.settings.width_in_focus_nm()
    elif drawing.third == "widths":
        units[2:4] = drawing.widths_nm(units.new_tensor([drawing.focus_nm]))[0]
    values, slopes = at * units, torch.diag(units)[None]
    values[:, 0] += 0.5 * pixel[1]
    values[:, 1] += 0.5 * pixel[0]
    if drawing.third == "rotated":
        slopes = slopes.repeat(len(at), 1, 1)
        values[:, 2:5], slopes[:, 2:5, 2:5] = rotated.to_axes(at[:, 2:5], drawing.psf.settings.width_in_focus_nm())
    return values, slopes


def _agreement(drawing: Drawing, windows: SpotPixels, which: Tensor, at: Tensor, noise: Noise) -> Tensor:
    """Sum log-likelihood, deviance, its expectation and its variance over spots: (m, 4)."""
    counts = windows.counts[which]
    dark = windows.dark[which] if len(windows.dark) > 1 else windows.dark
    k = drawing.n_coordinates
    shape = drawing.fractions(which, at, windows.shape_px)
    light = at[:, k, None, None, None] * shape + at[:, k + 1 :, None, None]
    mean = (windows.gain * light.to(counts) + dark).clamp(min=1e-6)
    there = ~torch.isnan(counts)
    counts = torch.where(there, counts, mean).clamp(min=0)
    term = torch.special.xlogy(counts, mean) - mean - torch.lgamma(counts + 1)
    parts = (term, deviance(counts, mean), *expected_moments(mean, dark, noise.is_amplified))
    return torch.stack([torch.where(there, part, 0.0).sum((1, 2, 3), dtype=torch.float64) for part in parts], 1)
