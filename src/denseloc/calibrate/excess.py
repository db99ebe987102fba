"""Whether a camera multiplies electrons, from the skewness of its noise in the dark places of a movie.

Electron multiplication doubles the variance, as a doubled gain would; but its noise is more skewed. With s the slope of the variance
against the mean, the second and third cumulants of a pixel are

    k3 = s k2   for shot noise,      k3 = 1.5 s k2   for shot noise that was multiplied

(the n-th cumulant of p multiplied electrons is ``n! g^n p``, and s = 2 g); the offset is not needed. Read noise adds to k2 alone, little
of it where electrons are multiplied. The filter ``[1, -2, 1]``, along one axis or both, passes
little light of molecules but costs precision. Pixels are chosen by the ring around the filter, not by their own light, so that the
choice does not change their law. Light that is left over mostly raises k3: the answer with the lowest upper end leads.

Source: A. G. Basden, C. A. Haniff, C. D. Mackay, Mon. Not. R. Astron. Soc. 345, 985, 2003 (the law of multiplied electrons).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

DARK_SHARES = (0.1, 0.3)
TILES = 4
MULTIPLIED = 1.5
NOT_MULTIPLIED = 1.3
"""Below this even multiplied electrons with read noise are not found."""
SURE = 2.5
"""Standard errors within which answers agree, and by which electrons that are multiplied are excluded."""
SURER = 3.0
"""Standard errors by which shot noise alone is excluded: light of molecules may look alike."""
SYSTEMATIC = 0.04
"""Relative error that the slope leaves."""
LEAST_FRAMES = 30


@dataclass(frozen=True)
class Skewness:
    """Third cumulant over that of shot noise: 1, or 1.5 where electrons were multiplied; with its standard error.

    Args:
        ratio: mean of those that agree with the one of the lowest upper end.
        sigma: its standard error.
        clean: whether the filters agree, so that no light of molecules is in it.
    """

    ratio: float
    sigma: float
    clean: bool

    @property
    def excess(self) -> float | None:
        """Say 1 or 2 where the other can be excluded, else None."""
        if not self.clean:
            return None
        if self.ratio + SURE * self.sigma < NOT_MULTIPLIED:
            return 1.0
        return 2.0 if 1 < self.ratio - SURER * self.sigma < MULTIPLIED else None


def noise_skewness(counts: np.ndarray, width_px: float, slope: float) -> Skewness | None:
    """Measure the skewness; None where there is too little to choose from.

    Args:
        counts: (frames, y, x).
        width_px: standard deviation of the PSF.
        slope: variance against mean, counts.
    """
    reach = max(1, round(1.5 * width_px))
    side = 2 * (reach + 1) + 1
    if len(counts) < LEAST_FRAMES or min(counts.shape[1:]) < 4 * side:
        return None
    values = counts.astype(np.float32)
    ring = np.ones((side, side), np.float32)
    ring[1:-1, 1:-1] = 0
    around = ndimage.convolve(values, (ring / ring.sum())[None], mode="nearest")
    bend, one = np.array([1.0, -2.0, 1.0]), np.ones(1)
    inner = (slice(None), slice(side, -side), slice(side, -side))
    found = []
    for level in np.quantile(around, DARK_SHARES, axis=0):  # pixels differ: each has its own
        dark = (around <= level)[inner]
        for kernel in (np.outer(one, one), np.outer(one, bend), np.outer(bend, bend)):
            passed = ndimage.convolve(values, kernel[None].astype(np.float32), mode="nearest")[inner]
            second, third = (_tiles(values) for values in _cumulants(passed, dark))
            found.append(_ratio(third / float((kernel**3).sum()), slope * second / float((kernel**2).sum())))
    kept = [answer for answer in found if answer is not None and answer[1] < 0.2]
    if not kept:
        return None
    lowest, error = min(kept, key=sum)  # the lowest upper end
    agreeing = [one for one in kept if abs(one[0] - lowest) < SURE * float(np.hypot(error, one[1])) + SYSTEMATIC]
    weights = [1 / sigma**2 for _, sigma in agreeing]
    ratio = float(np.average([value for value, _ in agreeing], weights=weights))
    return Skewness(ratio, min(sigma for _, sigma in agreeing), len(agreeing) > 1 and len(agreeing) > len(kept) / 2)


def _cumulants(values: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the unbiased second and third cumulants over the chosen frames of each pixel."""
    n = chosen.sum(0).astype(float)
    mean = np.where(chosen, values, 0).sum(0) / n
    off = np.where(chosen, values - mean, 0).astype(np.float64)
    return (off**2).sum(0) / np.maximum(n - 1, 1), (off**3).sum(0) * n / np.maximum((n - 1) * (n - 2), 1)


def _tiles(values: np.ndarray) -> np.ndarray:
    return np.array([tile.mean() for strip in np.array_split(values, TILES) for tile in np.array_split(strip, TILES, axis=1)])


def _ratio(third: np.ndarray, expected: np.ndarray) -> tuple[float, float] | None:
    """Give the ratio over all tiles and its standard error; None without noise."""
    if not (expected > 0).all():
        return None
    ratios = third / expected
    error = float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
    return float(ratios.mean()), float(np.hypot(error, SYSTEMATIC * abs(ratios.mean())))
