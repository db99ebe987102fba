"""Density, photons and background from the histogram of the pixels, at any density.

Molecules scattered at random with density ``rho`` and gamma distributed photons (mean ``n``, shape ``k``) give a pixel a compound
Poisson law; shot noise and a spread ``s`` of the background join as factors of its characteristic function, with
``a = exp(i t) - 1``, PSF levels ``h`` that are found on ``area`` pixels each, and read noise ``v``:

    log phi(t) = b a - (s^2 + v) t^2 / 2 - log(1 - c psi) / c,      psi = rho sum_h area ((1 - a h n / k)^-k - 1).

Molecules on filaments make the density itself uneven; the last term averages over a gamma law of the density of relative variance
c. The histogram follows by a Fourier transform and is fitted by likelihood, together with the power of the fluctuations.

Source: S. O. Rice, Bell Syst. Tech. J. 23, 282, 1944 (the law of a random superposition of pulses).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtr

MOST_BINS = 2048
LEVELS = 28
SIGMA_LOG_POWER = 0.1
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class PixelLaw:
    """What the histogram says.

    Args:
        background: photons per pixel and frame.
        density_px: emitters per pixel and frame.
        photons: mean photons per emitter.
        shape: shape of the gamma law of the photons (1 exponential; large: all alike).
        clustering: relative variance of the density between pixels.
        sigmas: standard errors of background (photons), log density and log photons.
        power_misfit: log of the power of the fluctuations that the fit implies over the power that the spectrum shows.
    """

    background: float
    density_px: float
    photons: float
    shape: float
    clustering: float
    sigmas: tuple[float, float, float]
    power_misfit: float


def psf_levels(width_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the levels of the PSF (share of the photons in a pixel) and the area in pixels on which each is found."""
    reach = 4.5 * width_px + 0.5
    u = (np.arange(int(reach / 0.2)) + 0.5) * 0.2
    one = ndtr((u + 0.5) / width_px) - ndtr((u - 0.5) / width_px)
    values = np.sort(np.outer(one, one).ravel())[::-1]
    area = np.full(values.size, 4 * 0.2**2)
    first = np.unique(np.geomspace(1, values.size, LEVELS + 1).astype(int))[:-1] - 1
    weight = np.add.reduceat(area, first)
    return np.add.reduceat(values * area, first) / weight, weight


class _Histogram:
    """The counts per bin and the law that they should follow.

    Parameters are (log background, log density, log photons, log shape, log clustering, log spread of the background).
    """

    low = np.log([1e-2, 1e-7, 5.0, 0.8, 1e-3, 1e-2])
    high = np.log([1e5, 3.0, 1e6, 30.0, 30.0, 1e4])

    def __init__(self, photons: np.ndarray, width_px: float, noise_variance: float, grain: float, power: float) -> None:
        dither = (np.arange(photons.size) * GOLDEN) % 1 - 0.5  # whole counts would leave a comb
        values = photons.ravel() + grain * dither
        bottom, dark, top = np.quantile(values, [0.0, 0.2, 1.0])
        noise = np.sqrt(max(dark, 1.0) + noise_variance)
        self.start = float(bottom - 2 * noise)
        span = 1.1 * (top - bottom) + 6 * noise
        step = max(1.0, noise / 3, span / MOST_BINS)
        self.bins = int(2 ** np.ceil(np.log2(span / step)))
        self.step = float(span / self.bins)
        index = ((values - self.start) / self.step).astype(int)
        self.counts = np.bincount(np.clip(index, 0, self.bins - 1), minlength=self.bins).astype(float)
        t = 2 * np.pi * np.fft.rfftfreq(self.bins, self.step)
        gone = 0.25 * max(dark, 0.0) * (1 - np.cos(np.minimum(t, np.pi))) + 0.5 * (noise_variance + grain**2 / 12) * t**2 > 14
        self.t = t[: int(np.argmax(gone))] if gone.any() else t  # beyond, noise leaves nothing
        self.light = np.exp(1j * self.t) - 1
        box = np.sinc(self.t * self.step / 2 / np.pi) * np.sinc(self.t * grain / 2 / np.pi)
        self.frame = box * np.exp(-1j * self.t * (self.start + self.step / 2))
        self.noise_variance, self.power = noise_variance, power
        self.level, self.area = psf_levels(width_px)
        self.seen = self.counts > 0
        # neighbours within the PSF see the same molecules, so pixels count for fewer than they are
        self.trust = 1 / (1 + 4 * np.pi * width_px**2)
        self.pulses = functools.lru_cache(maxsize=8)(self._pulses)

    def law(self, p: np.ndarray) -> np.ndarray:
        """Give the share of each bin."""
        background, density, photons, shape, clustering, spread = np.exp(p)
        psi = density * self.pulses(float(photons), float(shape))
        log_phi = (
            background * self.light
            - 0.5 * (spread**2 + self.noise_variance) * self.t**2
            - np.log(1 - clustering * psi) / clustering
        )
        return np.fft.irfft(np.conj(np.exp(log_phi) * self.frame), self.bins)  # zeros beyond the last t

    def _pulses(self, photons: float, shape: float) -> np.ndarray:
        """Give the sum over the levels; most of the time of a fit is spent here, and four of the six parameters do not change it."""
        return ((1 - self.light[:, None] * (photons / shape * self.level)) ** -shape - 1) @ self.area

    def power_misfit(self, p: np.ndarray) -> float:
        """Give the log of density times mean squared photons over what the spectrum says."""
        return float(p[1] + 2 * p[2] + np.log1p(np.exp(-p[3])) - np.log(self.power))

    def loss(self, p: np.ndarray) -> float:
        """Give the negative log posterior."""
        p = np.clip(p, self.low, self.high)
        share = self.law(p)
        floor = 1e-5 / self.bins
        share = np.maximum(share, 0) * (1 - 1e-5) + floor
        loss = -self.trust * float((self.counts[self.seen] * np.log(share[self.seen])).sum())
        if self.power > 0:
            loss += 0.5 * (self.power_misfit(p) / SIGMA_LOG_POWER) ** 2
        loss += 0.5 * ((p[3] - np.log(2)) / 1.0) ** 2 + 0.5 * ((p[4] - np.log(0.1)) / 2.0) ** 2
        return loss + 0.5 * ((p[5] - np.log(0.03) - p[0]) / 1.5) ** 2


def fit_pixel_law(photons: np.ndarray, width_px: float, noise_variance: float, power: float, grain: float = 0.0) -> PixelLaw:
    """Fit the law of the pixels.

    Args:
        photons: any shape, photons in pixels.
        width_px: standard deviation of the PSF.
        noise_variance: read noise in photons^2.
        power: density times mean squared photons per pixel, from the spectrum of the fluctuations; 0 where it is not known.
        grain: photons per count where counts are whole numbers, else 0.
    """
    histogram = _Histogram(photons, width_px, noise_variance, grain, power)
    dark, mean = max(float(np.quantile(photons, 0.1)), 0.05), float(photons.mean())
    dark += 1.28 * np.sqrt(dark + noise_variance)
    dark = min(dark, 0.98 * mean) if mean > 0.1 else 0.05
    excess = max(mean - dark, 0.02 * max(mean, 1.0))
    bounds = list(zip(histogram.low, histogram.high, strict=True))

    def descend(start: np.ndarray, steps: int) -> np.ndarray:
        options = {"maxiter": steps, "ftol": 1e-8, "eps": 1e-4}
        return minimize(histogram.loss, start, method="L-BFGS-B", bounds=bounds, options=options).x

    tries = []
    for share, shape, clustering in ((1.0, 3.0, 0.1), (0.3, 1.5, 1.0)):
        bright = max(power, 1.0) / excess / share if power > 0 else 500.0
        start = np.array([dark, share * excess / bright, bright, shape, clustering, 0.03 * max(dark, 0.5)])
        tries.append(descend(np.clip(np.log(start), histogram.low, histogram.high), 12))
    p = descend(min(tries, key=histogram.loss), 50)
    sigma = _standard_errors(histogram, p)
    background, density, bright, shape, clustering, _ = np.exp(p)
    sigmas = (float(background * sigma[0]), float(sigma[1]), float(sigma[2]))
    misfit = histogram.power_misfit(p) if power > 0 else 0.0
    return PixelLaw(float(background), float(density), float(bright), float(shape), float(clustering), sigmas, misfit)


def _standard_errors(histogram: _Histogram, p: np.ndarray) -> np.ndarray:
    """Give the standard errors from the curvature of the loss."""
    n, step = len(p), 0.02
    centre = histogram.loss(p)
    hessian = np.zeros((n, n))
    unit = np.eye(n) * step
    single = [(histogram.loss(p + u), histogram.loss(p - u)) for u in unit]
    for i in range(n):
        hessian[i, i] = max((single[i][0] + single[i][1] - 2 * centre) / step**2, 1e-3)
        for j in range(i):
            both = histogram.loss(p + unit[i] + unit[j]) + histogram.loss(p - unit[i] - unit[j])
            hessian[i, j] = hessian[j, i] = (both - sum(single[i]) - sum(single[j]) + 2 * centre) / (2 * step**2)
    values, vectors = np.linalg.eigh(hessian)
    return np.sqrt(np.einsum("ij,j->i", vectors**2, 1 / np.maximum(values, 0.05)))
