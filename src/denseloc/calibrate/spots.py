"""Width of the PSF from isolated bright spots: the direct way, where the movie is sparse enough to show some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

MOST_SPOTS = 400
DETECTION_SIGMAS = 6.0
LEAST_SNR = 12.0


@dataclass(frozen=True, eq=False)
class Spots:
    """Fits of isolated spots.

    Args:
        width_px: (n,) standard deviation of each spot.
        photons: (n,) photons of each spot.
        per_frame: spots seen per frame, isolated or not.
        isolated_share: share of the spots with no other within reach.
        restlessness: upper spread of the contrast over that of noise alone, near 1 where most of the field is empty.
    """

    width_px: np.ndarray
    photons: np.ndarray
    per_frame: float
    isolated_share: float
    restlessness: float

    def median_width(self) -> tuple[float, float]:
        """Give the median width and its standard error in pixels (nan, inf where there are too few)."""
        if len(self.width_px) < 5:
            return float("nan"), float("inf")
        low, middle, high = np.quantile(self.width_px, [0.16, 0.5, 0.84])
        return float(middle), float(1.25 * (high - low) / 2 / np.sqrt(len(self.width_px)))


def _peaks(photons: np.ndarray, width_px: float, noise_variance: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Find peaks (frame, y, x), which of them stand alone, and the restlessness."""
    blurred = [ndimage.gaussian_filter(photons, (0, s, s)) for s in (width_px, 2 * width_px)]
    contrast = blurred[0] - blurred[1]
    quarters = np.quantile(contrast, [0.25, 0.5, 0.75], axis=(1, 2))
    energy = (1 / width_px**2 + 1 / (2 * width_px) ** 2) / (4 * np.pi) - 1 / (2 * np.pi * 5 * width_px**2)
    noise = np.sqrt(np.maximum(np.median(photons, axis=(1, 2)) + noise_variance, 0.1) * energy)
    restlessness = float(np.median((quarters[2] - quarters[1]) / 0.674 / noise))
    threshold = quarters[1] + DETECTION_SIGMAS * (quarters[1] - quarters[0]) / 0.674
    reach = 2 * round(1.5 * width_px) + 1
    highest = contrast == ndimage.maximum_filter(contrast, (1, reach, reach))
    found = highest & (contrast > threshold[:, None, None])
    weak = highest & (contrast > (0.5 * threshold + 0.5 * quarters[1])[:, None, None])
    wide = 2 * round(5 * width_px) + 1
    neighbours = ndimage.uniform_filter(weak.astype(np.float32), (0, wide, wide), mode="constant") * wide**2
    at = np.argwhere(found)
    return at, neighbours[found] < 1.5, restlessness


def _model(pixel: np.ndarray, centre: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the light of a unit Gaussian in the pixels of one axis and its slopes in centre and width, each (n, pixels)."""
    low, high = ((pixel + side - centre[:, None]) / width[:, None] for side in (-0.5, 0.5))
    bell_low, bell_high = (np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi) / width[:, None] for u in (low, high))
    return ndtr(high) - ndtr(low), bell_low - bell_high, low * bell_low - high * bell_high


def _fit(crops: np.ndarray, width_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit x, y, photons, background, width to all crops by weighted least squares; give (n, 5) parameters and chi2 per pixel."""
    n, side = len(crops), crops.shape[1]
    pixel = np.arange(side) - side // 2
    rim = np.median(np.concatenate([crops[:, 0], crops[:, -1], crops[:, :, 0], crops[:, :, -1]], axis=1), axis=1)
    total = np.maximum((crops - rim[:, None, None]).sum((1, 2)), 10.0)
    p = np.stack([np.zeros(n), np.zeros(n), total, rim, np.full(n, width_px)], axis=1)
    chi2 = np.full(n, np.inf)
    damping = np.full(n, 1e-2)
    step = np.zeros_like(p)
    for _ in range(25):
        trial = p + step
        trial[:, :2] = np.clip(trial[:, :2], -2, 2)
        trial[:, 2] = np.maximum(trial[:, 2], 1)
        trial[:, 4] = np.clip(trial[:, 4], 0.4 * width_px, 3 * width_px)
        (gx, gx_c, gx_w), (gy, gy_c, gy_w) = _model(pixel, trial[:, 0], trial[:, 4]), _model(pixel, trial[:, 1], trial[:, 4])
        light = trial[:, 2, None, None]
        slopes = [light * gy[:, :, None] * gx_c[:, None], light * gy_c[:, :, None] * gx[:, None], gy[:, :, None] * gx[:, None]]
        slopes += [np.ones_like(slopes[0]), light * (gy_w[:, :, None] * gx[:, None] + gy[:, :, None] * gx_w[:, None])]
        model = light * slopes[2] + trial[:, 3, None, None]
        weight = 1 / (np.maximum(model, 0) + 2.0)
        off = crops - model
        new = (weight * off**2).mean((1, 2))
        better = new <= chi2 * (1 + 1e-3)
        damping = np.where(better, damping * 0.3, damping * 10)
        p[better], chi2[better] = trial[better], new[better]
        jacobian = np.stack(slopes, axis=-1).reshape(n, -1, 5)
        weighted = jacobian * weight.reshape(n, -1, 1)
        normal = np.einsum("npi,npj->nij", weighted, jacobian)
        normal += np.einsum("ni,ij->nij", damping[:, None] * np.einsum("nii->ni", normal) + 1e-9, np.eye(5))
        fresh = np.linalg.solve(normal, np.einsum("npi,np->ni", weighted, off.reshape(n, -1))[..., None])[..., 0]
        step = np.where(better[:, None], fresh, step * 0.3)
    return p, chi2


def fit_spots(photons: np.ndarray, width_px: float, noise_variance: float = 0.0) -> Spots:
    """Fit isolated bright spots with Gaussians of free width.

    Args:
        photons: (frames, y, x) photons.
        width_px: a first guess of the width.
        noise_variance: read noise in photons^2.
    """
    at, alone, restlessness = _peaks(photons, width_px, noise_variance)
    per_frame = len(at) / len(photons)
    half = int(np.ceil(3.5 * width_px))
    rows, columns = photons.shape[1:]
    inside = (at[:, 1] >= half) & (at[:, 1] < rows - half) & (at[:, 2] >= half) & (at[:, 2] < columns - half)
    chosen = at[alone & inside]
    share = float(alone.mean()) if len(alone) else 0.0
    if not len(chosen):
        return Spots(np.empty(0), np.empty(0), per_frame, share, restlessness)
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, MOST_SPOTS).astype(int))]
    reach = np.arange(-half, half + 1)
    crops = photons[chosen[:, 0, None, None], chosen[:, 1, None, None] + reach[:, None], chosen[:, 2, None, None] + reach]
    p, chi2 = _fit(crops.astype(float), width_px)
    good = (chi2 < 2 * np.median(chi2)) & (p[:, 4] > 0.45 * width_px) & (p[:, 4] < 2.8 * width_px) & (np.abs(p[:, :2]) < 1.5).all(1)
    good &= p[:, 2] / np.sqrt(np.maximum(p[:, 2] + 12.6 * p[:, 4] ** 2 * np.maximum(p[:, 3], 0.1), 1)) > LEAST_SNR
    if good.mean() < 0.3:  # mostly noise and pairs
        good[:] = False
    return Spots(p[good, 4], p[good, 2], per_frame, share, restlessness)
