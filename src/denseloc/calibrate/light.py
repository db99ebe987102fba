"""Light of molecules and of no molecule: the photon law of isolated spots, and the background in time and in the darkest places.

Source: Speiser, Turaga, Macke 2019, Teaching deep neural networks to localize sources in super-resolution microscopy (the gamma law of
the darkest 10 % of the pixels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from ..data import Movie
from .background import background_map
from .photon_transfer import Span

LEAST_SPOTS = 30
WINDOWS, WINDOW_FRAMES = 20, 12
MOST_PIXELS = 4_000_000
DARKEST = 0.1
FARTHEST = 100.0  # logarithm of a mean or of a relative width beyond which no fit looks


@dataclass(frozen=True)
class PhotonFit:
    """The law of the photons of a molecule in a frame.

    Args:
        family: the likelier of the two.
        mean: photons, with its 95 % interval.
        sd: standard deviation between molecules, with its 95 % interval.
        spots: number that it was fitted to.
        least: photons below which spots were not looked at; the law is fitted as one cut off there.
    """

    family: Literal["gamma", "log-normal"]
    mean: Span
    sd: Span
    spots: int
    least: float


def fit_photon_law(photons: np.ndarray, repeats: int = 60) -> PhotonFit | None:
    """Fit a gamma and a log-normal law, both cut off below the dimmest spots, and keep the likelier; None for fewer than 30 spots.

    Args:
        photons: (n,) of isolated spots.
        repeats: draws with replacement, for the intervals.
    """
    found = np.sort(photons[np.isfinite(photons) & (photons > 0)])
    if len(found) < LEAST_SPOTS:
        return None
    least = float(found[max(1, len(found) // 50)])  # below, spots are found in part only
    found = found[found >= least]
    fits = {family: _fit(found, least, family) for family in ("gamma", "log-normal")}
    family: Literal["gamma", "log-normal"] = "gamma" if fits["gamma"][2] <= fits["log-normal"][2] else "log-normal"
    rng = np.random.default_rng(0)  # the draws are part of the method, not of a simulation
    drawn = np.array([_fit(rng.choice(found, len(found)), least, family)[:2] for _ in range(repeats)])
    mean, sd, _ = fits[family]
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    spans = [Span(v, min(v, float(low)), max(v, float(high))) for v, low, high in zip((mean, sd), *ends, strict=True)]
    return PhotonFit(family, spans[0], spans[1], len(found), least)


def _fit(photons: np.ndarray, least: float, family: str) -> tuple[float, float, float]:
    """Give mean, standard deviation and negative log-likelihood of the cut law."""
    centre, spread = float(np.log(photons.mean())), float(np.clip(photons.std() / photons.mean(), 0.05, 2))
    sums = _Sums.of(photons)
    law = sums.gamma if family == "gamma" else sums.log_normal

    def loss(p: np.ndarray) -> float:
        if np.abs(p).max() > FARTHEST:
            return 1e300
        likelihood, seen = law(math.exp(p[0]), math.exp(p[1]), least)
        value = -likelihood + sums.n * seen
        rare = max(0.0, -seen - 3.0)  # nearly all of a law that is not seen is not a law that was seen
        return value + 0.5 * rare**2 if math.isfinite(value) else 1e300

    with np.errstate(divide="ignore"):  # nothing of a law above the cut
        best = optimize.minimize(
            loss, [centre, np.log(spread)], method="Nelder-Mead", options={"maxiter": 120, "xatol": 1e-3, "fatol": 1e-3}
        )
    mean, relative = np.exp(best.x)
    return float(mean), float(mean * relative), float(best.fun)


@dataclass(frozen=True)
class _Sums:
    """All that the likelihood of either law depends on, so that a fit need not go over the photons again.

    Args:
        n: number of photon counts x.
        total: sum of x.
        mean_log: mean of ln x.
        square_log: sum of the squares of ln x about their mean.
    """

    n: int
    total: float
    mean_log: float
    square_log: float

    @classmethod
    def of(cls, photons: np.ndarray) -> _Sums:
        """Add up."""
        logs = np.log(photons)
        return cls(len(photons), float(photons.sum()), float(logs.mean()), float(np.square(logs - logs.mean()).sum()))

    def gamma(self, mean: float, relative_sd: float, least: float) -> tuple[float, float]:
        """Give log-likelihood under a gamma law, and the logarithm of the share of it above ``least``."""
        shape = 1 / relative_sd**2
        scale = mean / shape
        norm = special.gammaln(shape) + shape * math.log(scale)
        likelihood = self.n * ((shape - 1) * self.mean_log - norm) - self.total / scale
        return float(likelihood), float(np.log(special.gammaincc(shape, least / scale)))

    def log_normal(self, mean: float, relative_sd: float, least: float) -> tuple[float, float]:
        """Give the same under a log-normal law."""
        log_sd = math.sqrt(math.log1p(relative_sd**2))
        middle = math.log(mean) - log_sd**2 / 2
        squares = self.square_log + self.n * (self.mean_log - middle) ** 2
        norm = math.log(log_sd) + math.log(2 * math.pi) / 2 + self.mean_log
        return -squares / (2 * log_sd**2) - self.n * norm, float(special.log_ndtr((middle - math.log(least)) / log_sd))


@dataclass(frozen=True, eq=False)
class BackgroundInTime:
    """Median background of windows that slide over the movie.

    Args:
        frame: (n,) middle of each window.
        photons: (n,) per pixel and frame.
        change: last over first by a straight line, less 1, with its 95 % interval.
    """

    frame: np.ndarray
    photons: np.ndarray
    change: Span


def background_in_time(
    movie: Movie, offset_counts: float, counts_per_photon: float, noise_variance: float = 0.0, excess: float = 1.0
) -> BackgroundInTime | None:
    """Measure the background in up to 20 windows of 12 frames; None for movies of fewer than 4 windows.

    Args:
        movie: counts; the first plane is looked at.
        offset_counts, counts_per_photon: the camera.
        noise_variance: read noise in photons^2.
        excess: factor on the variance of shot noise.
    """
    windows = int(min(WINDOWS, movie.n_frames // WINDOW_FRAMES))
    if windows < 4:
        return None
    part = _small(movie, WINDOW_FRAMES * windows)
    starts = np.linspace(movie.frames[0], movie.frames[1] - WINDOW_FRAMES, windows).astype(int)
    levels = np.empty(windows)
    for i, at in enumerate(starts):
        counts = part.read(int(at), int(at) + WINDOW_FRAMES)[:, 0].astype(np.float32)
        photons = (counts - np.float32(offset_counts)) / np.float32(counts_per_photon)
        levels[i] = float(np.median(background_map(photons, noise_variance, excess)))
    time = np.linspace(0, 1, windows)
    (slope, first), covariance = np.polyfit(time, levels, 1, cov=True)
    scale = max(first, 0.1)
    error = 2 * float(np.sqrt(covariance[0, 0])) / scale
    change = float(slope) / scale
    return BackgroundInTime(starts + WINDOW_FRAMES / 2, levels, Span(change, change - error, change + error))


def _small(movie: Movie, frames: int) -> Movie:
    """Crop to the middle where whole frames would be too much."""
    rows, columns = movie.shape_px
    side = int(np.sqrt(MOST_PIXELS / frames))
    height, width = min(rows, side), min(columns, side)
    y0, x0 = movie.origin_px
    return movie.crop(roi_px=(y0 + (rows - height) // 2, x0 + (columns - width) // 2, height, width))


@dataclass(frozen=True)
class DarkestGamma:
    """Gamma law of what the darkest pixels show, counts above the offset.

    Args:
        mean: photons per pixel and frame in the darkest pixels, with its 95 % interval.
        scale: counts^2 of variance per count of light: gain and excess noise, with the share of the read noise in it.
    """

    mean: Span
    scale: Span


def darkest_gamma(counts: np.ndarray, offset_counts: float, counts_per_photon: float) -> DarkestGamma | None:
    """Fit a gamma law to the 10 % of the pixels that are darkest over time; None where there is nothing above the offset.

    Pixels that are dark by chance alone make the mean too low, by less than the interval where there are many frames.

    Args:
        counts: (frames, y, x).
        offset_counts, counts_per_photon: the camera.
    """
    means = counts.mean(0)
    dark = means <= np.quantile(means, DARKEST)
    values = counts[:, dark].astype(np.float64) - offset_counts
    mean, n = float(values.mean()), values.size
    variance = float(values.var(axis=0, ddof=1).mean()) if len(counts) > 1 else float(values.var())
    if mean <= 0 or variance <= 0 or n < 20:
        return None
    by_pixel = float(values.mean(0).std() / np.sqrt(max(1, dark.sum() - 1)))
    error = 2 * max(by_pixel, float(np.sqrt(variance / n)))
    scale = variance / mean
    off = 2 * scale * float(np.hypot(np.sqrt(2 / n), error / 2 / mean))
    level = (mean / counts_per_photon, (mean - error) / counts_per_photon, (mean + error) / counts_per_photon)
    return DarkestGamma(Span(*level), Span(scale, scale - off, scale + off))
