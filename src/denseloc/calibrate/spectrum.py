"""Width of the PSF and level of the white noise from the mean power spectrum of the frames, at any density.

Light that fluctuates from molecule to molecule has the power spectrum of the PSF, noise of the camera is white. With
``A`` the photons squared per pixel of the molecules and ``F`` the floor of the noise,

    P(ky, kx) = F + A R(ky) R(kx),

where R is the Fourier transform of the autocovariance of a Gaussian of the given width integrated over pixels, times the
autocovariance of the window. Overlap of molecules does not enter, so the densest movies serve best.

Source: P. Whittle, Ark. Mat. 2, 423, 1953 (likelihood of a periodogram).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

WIDTHS_PX = (0.5, 6.0)
LOWEST_WAVENUMBER = 0.45  # rad / px; below it, structure and uneven background rule


@dataclass(frozen=True)
class SpectrumFit:
    """What the power spectrum says.

    Args:
        width_px: standard deviation of the PSF in pixels.
        sigma_px: its standard error, statistics and the spread between bands of wavenumbers.
        power: A, in counts^2 per pixel.
        floor: F, in counts^2.
        significance: gain in log-likelihood over white noise alone.
    """

    width_px: float
    sigma_px: float
    power: float
    floor: float
    significance: float


def autocovariance(width_px: float, reach: int) -> np.ndarray:
    """Give the autocovariance of a unit Gaussian integrated over pixels at lags -reach .. reach px along one axis.

    A Gaussian of sd ``sqrt(2) width`` convolved with the triangle that is the autocovariance of a pixel, as the second
    difference of the twice integrated Gaussian.
    """
    lag = np.arange(-reach - 1.0, reach + 2.0)
    sd = np.sqrt(2.0) * width_px
    ramp = lag * ndtr(lag / sd) + sd * np.exp(-0.5 * (lag / sd) ** 2) / np.sqrt(2 * np.pi)
    return ramp[2:] - 2 * ramp[1:-1] + ramp[:-2]


def _window(n: int) -> np.ndarray:
    return np.hanning(n + 2)[1:-1]


def expected_power(n: int, width_px: float) -> np.ndarray:
    """Give R at the n wavenumbers of a windowed tile of n px, for one axis."""
    window = _window(n)
    lags = np.arange(-n + 1, n)
    covariance = autocovariance(width_px, n - 1) * np.correlate(window, window, "full") / (window**2).sum()
    return np.cos(np.outer(2 * np.pi * np.arange(n) / n, lags)) @ covariance


def _starts(size: int, n: int) -> np.ndarray:
    return np.unique(np.linspace(0, size - n, max(1, 2 * (size // n) - 1)).astype(int))


def mean_power(fluctuation: np.ndarray, n: int) -> tuple[np.ndarray, int]:
    """Average the periodograms of half overlapping tiles.

    Args:
        fluctuation: (frames, y, x) counts from which what does not change was taken away.
        n: side of a tile in px.

    Returns:
        (n, n) power per pixel in counts^2, and the number of independent tiles.
    """
    window = np.outer(_window(n), _window(n))
    window = (window / np.sqrt((window**2).sum())).astype(np.float32)
    _, rows, columns = fluctuation.shape
    total, tiles = np.zeros((n, n)), 0
    for y in _starts(rows, n):
        for x in _starts(columns, n):
            tile = fluctuation[:, y : y + n, x : x + n]
            tile = (tile - tile.mean(axis=(1, 2), keepdims=True)) * window
            total += _full_plane((np.abs(np.fft.rfft2(tile)) ** 2).sum(0), n)
            tiles += len(tile)
    independent = len(fluctuation) * max(1, rows // n) * max(1, columns // n)
    return total / tiles, independent


def _full_plane(half: np.ndarray, n: int) -> np.ndarray:
    """Complete the half plane of a real transform."""
    full = np.empty((n, n))
    full[:, : half.shape[1]] = half
    mirrored = np.arange(half.shape[1], n)
    full[:, mirrored] = half[(-np.arange(n)) % n][:, n - mirrored]
    return full


class _Band:
    """Whittle likelihood of the spectrum at wavenumbers above ``lowest``."""

    def __init__(self, power: np.ndarray, lowest: float) -> None:
        self.n = len(power)
        k = 2 * np.pi * np.minimum(np.arange(self.n), self.n - np.arange(self.n)) / self.n
        self.use = np.hypot(k[:, None], k[None]) >= lowest
        self.power = power[self.use]

    def levels(self, width_px: float) -> tuple[float, float, float]:
        """Give floor, power and negative log-likelihood per tile at one width."""
        one = expected_power(self.n, width_px)
        shape = np.outer(one, one)[self.use]
        model, floor, power = self.power, 0.0, 0.0
        for _ in range(8):
            weight = 1 / model**2
            s0, s1, s2 = weight.sum(), (weight * shape).sum(), (weight * shape**2).sum()
            p0, p1 = (weight * self.power).sum(), (weight * self.power * shape).sum()
            determinant = max(s0 * s2 - s1**2, 1e-300)
            power = max((s0 * p1 - s1 * p0) / determinant, 0.0)
            floor = max((p0 - power * s1) / s0, 1e-9 * float(self.power.mean()))
            model = floor + power * shape
        return floor, power, float((self.power / model + np.log(model)).sum())

    def best(self) -> float:
        """Find the width of greatest likelihood."""
        grid = np.geomspace(*WIDTHS_PX, 36)
        values = [self.levels(width)[2] for width in grid]
        i = int(np.clip(np.argmin(values), 1, len(grid) - 2))
        found = minimize_scalar(
            lambda w: self.levels(w)[2], bounds=(grid[i - 1], grid[i + 1]), method="bounded", options={"xatol": 1e-3}
        )
        return float(found.x)


def fit_spectrum(fluctuation: np.ndarray) -> SpectrumFit | None:
    """Fit width, floor and power to the mean power spectrum.

    Args:
        fluctuation: (frames, y, x) counts from which what does not change was taken away.

    Returns:
        The fit, or None where the field is under 12 px or holds no fluctuation.
    """
    n = min(64, *fluctuation.shape[1:])
    if n < 12:
        return None
    power, tiles = mean_power(fluctuation, n)
    if not power.mean() > 0:
        return None
    band = _Band(power, LOWEST_WAVENUMBER)
    width = band.best()
    floor, level, likelihood = band.levels(width)
    white = np.log(band.power.mean()) * band.power.size + band.power.size
    independent = tiles / 2 / 1.5**2  # one of two mirrored wavenumbers; the window couples neighbours
    step = 0.02 * width
    curvature = (band.levels(width + step)[2] + band.levels(width - step)[2] - 2 * likelihood) / step**2 * independent
    statistics = 1 / np.sqrt(max(curvature, 1e-12))
    spread = abs(_Band(power, 1.5 * LOWEST_WAVENUMBER).best() - width)
    significance = float((white - likelihood) * independent)
    return SpectrumFit(width, float(np.hypot(statistics, spread)), level, floor, significance)
