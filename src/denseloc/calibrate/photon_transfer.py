"""Gain and offset of the camera from an ordinary movie: variance of the noise against the local mean.

The optics passes no light at the highest wavenumbers of the raster, so a high-pass filter leaves the noise alone. Along each axis
the filter is ``[1, -2, 1]`` convolved p times with itself; what little light it passes is known from the width of the PSF and is
taken away with the help of the filter of order p - 1. Pixels are binned by their local brightness; the line

    variance = gain (mean - offset) + noise_variance gain^2

through the bins gives the gain (counts per photon, with the excess of an electron multiplying camera in it). Offset and read noise
stand in one intercept: priors on both tell them apart, and the intervals say how well.

Source: J. R. Janesick, Photon Transfer, SPIE 2007 (the line); J. Immerkaer, Comput. Vis. Image Underst. 64, 300, 1996 (the
filter of order 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .spectrum import autocovariance

BOX_PX = 5
SEPARATION = 6.0
COMMON_OFFSETS = {0.0: 0.04, 100.0: 0.3, 200.0: 0.03, 398.6: 0.02, 400.0: 0.02, 500.0: 0.04, 1000.0: 0.02}
"""Offsets that cameras and simulations are set to, with their share of the prior; the rest is flat."""
READ_NOISE = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 20.0, 30.0, 45.0, 64.0])
"""Variances of the read noise in photons^2 that are thought of, and their prior below: small ones are common."""
READ_NOISE_PRIOR = np.array([0.25, 0.09, 0.11, 0.12, 0.1, 0.07, 0.07, 0.05, 0.04, 0.03, 0.025, 0.02, 0.015, 0.006, 0.004])


@dataclass(frozen=True, eq=False)
class NoisePoints:
    """Bins of brightness: local mean (counts), variance of the noise (counts^2) and its standard error."""

    mean: np.ndarray
    variance: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True)
class Span:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Transfer:
    """The camera as the noise shows it.

    Args:
        offset: counts.
        slope: counts^2 of variance per count of light.
        noise_variance: read noise, photons^2 of the slope.
        drawn: (3, n) offsets, slopes and their posterior weights, before common offsets are preferred.
    """

    offset: Span
    slope: Span
    noise_variance: Span
    drawn: np.ndarray = field(default_factory=lambda: np.empty((3, 0)))

    def photons_of(self, counts: float) -> Span:
        """Give the photons of a level in counts with the interval that offset and slope leave to it, together as they vary."""
        value = (counts - self.offset.value) / self.slope.value
        if not self.drawn.size:
            ends = (counts - self.offset.high) / self.slope.high, (counts - self.offset.low) / self.slope.low
        else:
            ends = _quantiles((counts - self.drawn[0]) / self.drawn[1], self.drawn[2])
        return Span(value, min(ends[0], value), max(ends[1], value))


def high_pass(order: int) -> np.ndarray:
    """Give the filter of one axis, of unit energy."""
    kernel = np.ones(1)
    for _ in range(order):
        kernel = np.convolve(kernel, [1.0, -2.0, 1.0])
    return kernel / np.sqrt((kernel**2).sum())


def leakage(order: int, width_px: float) -> float:
    """Give the energy that passes the filter from one emitter of one photon, summed over the pixels."""
    kernel = high_pass(order)
    return float((np.correlate(kernel, kernel, "full") * autocovariance(width_px, 2 * order)).sum() ** 2)


def _smooth(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.correlate1d(ndimage.correlate1d(values, kernel, axis=1), kernel, axis=2)


def _box(values: np.ndarray) -> np.ndarray:
    return ndimage.uniform_filter1d(ndimage.uniform_filter1d(values, BOX_PX, axis=1), BOX_PX, axis=2)


def choose_order(width_px: float, power: float, floor: float, side_px: int) -> int:
    """Choose the lowest order at which light from the molecules adds under 1 % to the noise, 5 at most."""
    highest = max(2, min(5, (side_px - BOX_PX) // 4))
    return next((p for p in range(2, highest) if leakage(p, width_px) * power < 0.01 * floor), highest)


def noise_points(
    counts: np.ndarray, width_px: float, order: int, saturation: float = np.inf, quantization: float = 0.0
) -> NoisePoints:
    """Measure the variance of the noise in bins of local brightness.

    Args:
        counts: (frames, y, x) float32.
        width_px: standard deviation of the PSF.
        order: order of the high-pass filter, 2 or more.
        saturation: counts from which on pixels (and their neighbours) are left out.
        quantization: variance of rounding, 1/12 for whole numbers.
    """
    frames = len(counts)
    still = frames >= 4
    moving = (counts - counts.mean(0)) * np.float32(np.sqrt(frames / (frames - 1))) if still else counts
    high = _box(_smooth(moving, high_pass(order).astype(np.float32)) ** 2)
    lower = _box(_smooth(moving, high_pass(order - 1).astype(np.float32)) ** 2)
    brightness = _box(_smooth(counts, (high_pass(order) ** 2).astype(np.float32)))
    mean = brightness
    if still:  # the noise of the temporal mean comes from all frames
        mean = brightness * (1 - 1 / frames) + (brightness.mean(0) * frames - brightness) / (frames * (frames - 1))
    rim = order + BOX_PX // 2
    inner = (slice(None), slice(rim, -rim), slice(rim, -rim))
    keep = np.ones(counts[inner].shape, bool)
    if np.isfinite(saturation) and (counts >= saturation).any():
        keep = ~ndimage.maximum_filter(counts >= saturation, (1, 2 * rim + 1, 2 * rim + 1))[inner]
    fields = np.stack([values[inner][keep].astype(np.float64) for values in (brightness, mean, high, lower)])
    if fields.shape[1] < 20:
        return NoisePoints(np.empty(0), np.empty(0), np.empty(0))
    return _binned(fields, leakage(order, width_px) / leakage(order - 1, width_px), order, quantization)


def _binned(fields: np.ndarray, ratio: float, order: int, quantization: float) -> NoisePoints:
    """Average in bins of brightness and take the leaked light away: ``(high - ratio lower) / (1 - ratio)``.

    Args:
        fields: (4, pixels) brightness, mean, squared high-pass of the order and of the order below.
        ratio: leakage of the order over that of the order below.
        order: order of the high-pass.
        quantization: variance of rounding.
    """
    brightness = fields[0]
    shares = np.r_[np.linspace(0.02, 0.9, 12), 0.95, 0.98, 0.99, 0.995, 0.999]
    edges = np.quantile(brightness[:: max(1, brightness.size // 200_000)], shares)
    bins = np.digitize(brightness, edges)
    n = np.bincount(bins, minlength=len(edges) + 1).astype(float)
    sums = np.stack([np.bincount(bins, values, minlength=len(n)) for values in fields[1:]])
    smoother = np.convolve(high_pass(order) ** 2, np.full(BOX_PX, 1 / BOX_PX))
    jitter = np.sqrt(sums[1] / np.maximum(n, 1)) * (smoother**2).sum()  # what noise alone does to the brightness of each bin
    first = _apart(np.r_[brightness.min(), edges], SEPARATION * jitter)
    n, sums = np.add.reduceat(n, first), np.add.reduceat(sums, first, axis=1)
    at, top, below = sums / np.maximum(n, 1)
    noise = (top - ratio * below) / (1 - ratio)
    leaked = np.abs(top - noise)
    kernel = high_pass(order)
    coupled = (np.correlate(kernel, kernel, "full") ** 2).sum() ** 2  # neighbours share noise
    statistics = noise * np.sqrt(2 * coupled / np.maximum(n, 1))
    sigma = np.sqrt(statistics**2 + (0.01 * noise) ** 2 + (0.3 * leaked) ** 2)
    good = (n >= 30) & (noise > quantization)
    return NoisePoints(at[good], noise[good] - quantization, sigma[good])


def _apart(lows: np.ndarray, widths: np.ndarray) -> list[int]:
    """Choose the bins to start at so that each joined bin is at least as wide as noise would blur it.

    Inside of a narrower bin, brightness would sort the noise itself: its skewness, not the light, would set the slope.
    """
    first = [0]
    for i in range(1, len(lows)):
        if lows[i] - lows[first[-1]] >= widths[first[-1]]:
            first.append(i)
    return first


@dataclass(frozen=True)
class _Line:
    """The straight line about its centroid, where level and slope are independent."""

    centre: float
    level: float
    sigma_level: float
    slope: float
    sigma_slope: float
    darkest: float


def _fit_line(points: NoisePoints) -> _Line:
    """Fit a straight line, giving less weight to bins far off it."""
    mean, variance, sigma = points.mean, points.variance, points.sigma
    weight = 1 / sigma**2
    for _ in range(20):
        centre, level = np.average(mean, weights=weight), np.average(variance, weights=weight)
        moment = float((weight * (mean - centre) ** 2).sum())
        slope = float((weight * (mean - centre) * variance).sum() / moment) if moment > 0 else 0.0
        off = np.abs(variance - level - slope * (mean - centre)) / sigma
        weight = np.minimum(1, 2 / np.maximum(off, 1e-9)) / sigma**2
    scale = max(1.0, np.sqrt(float((weight * sigma**2 * off**2).sum()) / max(1, len(mean) - 2)))
    sigma_level = scale / np.sqrt(weight.sum())
    sigma_slope = scale / np.sqrt(moment) if moment > 0 else np.inf
    sigma_slope = min(float(np.hypot(sigma_slope, 0.01 * slope)), 1e6)
    return _Line(float(centre), float(level), float(sigma_level), slope, sigma_slope, float(mean.min()))


def fit_transfer(
    points: NoisePoints, lowest_offset: float, offset: float | None = None, slope: float | None = None
) -> Transfer | None:
    """Tell gain, offset and read noise apart.

    Args:
        points: bins of brightness.
        lowest_offset: offsets below are not thought of.
        offset: offset in counts where it is known.
        slope: counts per photon, with the excess in it, where it is known.

    Returns:
        The camera, or None where there are no bins.
    """
    if not len(points.mean):
        return None
    line = _fit_line(points)
    if slope is not None:
        line = _Line(line.centre, line.level, line.sigma_level, slope, 1e-3 * slope, line.darkest)
    if offset is None:
        flat = np.linspace(min(lowest_offset, line.darkest - 1e-3), line.darkest, 1200)
        common = np.array([o for o in COMMON_OFFSETS if lowest_offset <= o < line.darkest])
        shares = np.array([COMMON_OFFSETS[o] for o in common])
    else:
        flat, common, shares = np.array([offset]), np.empty(0), np.empty(0)
    flat_share = (1 - sum(COMMON_OFFSETS.values())) / len(flat)
    offsets = np.concatenate([flat, common])
    gain, evidence = _evidence(line, offsets)
    posterior = evidence * READ_NOISE_PRIOR * np.concatenate([np.full(len(flat), flat_share), shares])[:, None]
    if not posterior.sum() > 0:
        return None
    return _summarize(offsets, gain, posterior, len(flat))


def _evidence(line: _Line, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the best gain and the evidence for each pair of offset and read noise, both (offsets, read noises)."""
    light, noise = (line.centre - offsets)[:, None], READ_NOISE[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(
            noise > 0, (np.sqrt(light**2 + 4 * noise * line.level) - light) / (2 * noise), line.level / np.maximum(light, 1e-9)
        )
    least, most = 0.02 * gain, 50 * gain
    for step in range(7):
        level_off = (gain * light + noise * gain**2 - line.level) / line.sigma_level
        level_slope = (light + 2 * noise * gain) / line.sigma_level
        slope_off = (gain - line.slope) / line.sigma_slope
        curvature = level_slope**2 + 1 / line.sigma_slope**2
        if step < 6:
            gain = np.clip(gain - (level_slope * level_off + slope_off / line.sigma_slope) / curvature, least, most)
    chi2 = level_off**2 + slope_off**2
    evidence = np.exp(-0.5 * (chi2 - chi2.min())) / np.sqrt(curvature) / gain
    return gain, np.where(np.isfinite(evidence), evidence, 0.0)


def _quantiles(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    order = np.argsort(values, axis=None)
    share = np.cumsum(weights.ravel()[order])
    low, high = np.interp([0.025, 0.975], share / share[-1], values.ravel()[order])
    return float(low), float(high)


def _summarize(offsets: np.ndarray, gain: np.ndarray, posterior: np.ndarray, n_flat: int) -> Transfer:
    """Take a common offset where it holds 30 % of the posterior; the intervals know nothing of common offsets.

    30 % is what the commonest one holds where nothing is known.
    """
    share = posterior.sum(1) / posterior.sum()
    likeliest = int(np.argmax(share[n_flat:])) + n_flat if len(share) > n_flat else -1
    grid_offsets = np.broadcast_to(offsets[:, None], posterior.shape)
    grid_noise = np.broadcast_to(READ_NOISE[None], posterior.shape)
    chosen = np.zeros_like(posterior)
    if likeliest >= 0 and share[likeliest] > 0.3:
        chosen[likeliest] = posterior[likeliest]
    else:
        chosen[:n_flat] = posterior[:n_flat]
    flat = slice(0, n_flat) if posterior[:n_flat].sum() > 0 else slice(None)
    common = offsets[n_flat:][share[n_flat:] > 0.05 * share.sum()]
    spans = []
    for grid in (grid_offsets, gain, grid_noise):
        value = float((grid * chosen).sum() / chosen.sum())
        low, high = _quantiles(grid[flat], posterior[flat])
        value = float(
            np.clip(value, grid[chosen > 0].min(), grid[chosen > 0].max())
        )  # the mean of equal numbers is not always they
        plausible = (value, *common) if grid is grid_offsets else (value,)
        spans.append(Span(value, float(min(low, *plausible, high)), float(max(high, *plausible))))
    if spans[0].low - offsets[0] < 0.05 * (spans[0].high - offsets[0]):  # down to the lowest that is thought of
        spans[0] = Span(spans[0].value, float(offsets[0]), spans[0].high)
    drawn = np.stack([grid_offsets[flat].ravel(), gain[flat].ravel(), posterior[flat].ravel()])
    return Transfer(spans[0], spans[1], spans[2], drawn)
