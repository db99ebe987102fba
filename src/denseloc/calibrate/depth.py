"""How deep the molecules of a movie lie: isolated spots, each fitted with a calibrated PSF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from ..errors import CalibrationError
from ..fit import DEPTHS_NM, fit_single
from ..optics import PSF
from .photon_transfer import Span

MOST_SPOTS = 300
LEAST_SPOTS = 20
DETECTION_SIGMAS = 6.0
LEAST_P = 1e-4
"""Spots that the PSF describes worse than this are pairs, or not of this PSF."""
VAGUE = 0.25
"""Bound on z, as a share of the range of the PSF, beyond which a spot says nothing of its depth."""
WIDEST_PX = 31
MOST_PEAKS = 3000
ENDS = (0.05, 0.5, 0.95)


@dataclass(frozen=True, eq=False)
class Depths:
    """Depths of isolated spots.

    Args:
        z_nm: (n,) of the spots that the PSF describes.
        crlb_nm: median of their bounds.
        tried: spots that were looked at; the rest did not fit, or lies at the end of the PSF's range.
        low, middle, high: 5, 50 and 95 % quantile, each with its 95 % interval.
    """

    z_nm: np.ndarray
    crlb_nm: float
    tried: int
    low: Span
    middle: Span
    high: Span


def check_depth_psf(psf: PSF) -> None:
    """Refuse a PSF from which the depth of single spots cannot be had.

    Raises:
        CalibrationError: it tells no depth, or has several focal planes.
    """
    if psf.planes > 1:
        raise CalibrationError(
            f"a PSF of {psf.planes} focal planes; an inspection finds z with PSFs of one plane: leave the PSF out, and localize with it"
        )
    if not psf.settings.tells_depth:
        raise CalibrationError(
            f"the {type(psf).__name__} PSF tells no depth; give one that does, such as of 'denseloc calibrate', or leave it out"
        )


def measure_depths(
    psf: PSF, photons: np.ndarray, width_px: float, excess: float = 1.0, noise_variance: float = 0.0
) -> Depths | None:
    """Fit isolated bright spots with a PSF and give the quantiles of their depths; None for fewer than 20 good ones.

    Errors of the fits are in the quantiles: they are somewhat too far apart where ``crlb_nm`` is not small against their distance.

    Args:
        psf: of one plane, which tells depth.
        photons: (frames, y, x) detected photons.
        width_px: standard deviation of the spots, roughly.
        excess, noise_variance: noise of the photons, ``excess mu + noise_variance``.

    Raises:
        CalibrationError: the PSF does not suit.
    """
    check_depth_psf(psf)
    half = min(WIDEST_PX, psf.settings.roi_px, min(photons.shape[1:])) // 2
    windows = _isolated(photons, width_px, half)
    if len(windows) < LEAST_SPOTS:
        return None
    fits = fit_single(psf, torch.from_numpy(windows), excess=excess, noise_variance=noise_variance, depth=True, reach_px=3.0)
    z, bound = fits["z_nm"].numpy(), fits.crlb("z_nm").numpy()
    low, high = psf.z_range_nm or DEPTHS_NM
    good = fits.converged.numpy() & (fits.p_value.numpy() > LEAST_P) & (bound < VAGUE * (high - low))
    if good.sum() < LEAST_SPOTS:
        return None
    return _depths(z[good], float(np.median(bound[good])), len(windows))


def _depths(z_nm: np.ndarray, crlb_nm: float, tried: int) -> Depths:
    drawn = np.random.default_rng(0).choice(z_nm, (400, len(z_nm)))  # the draws are part of the method, not of a simulation
    ends = np.quantile(np.quantile(drawn, ENDS, axis=1), [0.025, 0.975], axis=1).T
    spans = [
        Span(float(value), float(min(value, low)), float(max(value, high)))
        for value, (low, high) in zip(np.quantile(z_nm, ENDS), ends, strict=True)
    ]
    return Depths(z_nm, crlb_nm, tried, *spans)


def _isolated(photons: np.ndarray, width_px: float, half: int) -> np.ndarray:
    """Cut windows (n, k, k) around bright peaks that have no other within the window; evenly over the movie."""
    seen, bright = _peaks(photons, width_px)
    if len(seen) > MOST_PEAKS:  # fewer frames will do
        step = -(-len(seen) // MOST_PEAKS)
        seen, bright = (values[seen[:, 0] % step == 0] for values in (seen, bright))
    same_frame = seen[:, None, 0] == seen[None, :, 0]
    alone = (same_frame & (np.abs(seen[:, None, 1:] - seen[None, :, 1:]).max(2) <= half)).sum(1) == 1
    rows, columns = photons.shape[1:]
    inside = (seen[:, 1] >= half) & (seen[:, 1] < rows - half) & (seen[:, 2] >= half) & (seen[:, 2] < columns - half)
    at = seen[bright & alone & inside]
    at = at[np.unique(np.linspace(0, max(len(at) - 1, 0), MOST_SPOTS).astype(int))] if len(at) else at
    window = np.arange(-half, half + 1)
    crops = photons[at[:, 0, None, None], at[:, 1, None, None] + window[:, None], at[:, 2, None, None] + window]
    return np.ascontiguousarray(crops, np.float32)


def _peaks(photons: np.ndarray, width_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Find peaks (n, 3) as frame, y, x, and which of them are bright enough to be fitted; the others may still disturb."""
    contrast = ndimage.gaussian_filter(photons, (0, width_px, width_px))
    contrast = contrast - ndimage.gaussian_filter(photons, (0, 2 * width_px, 2 * width_px))
    quarter, middle = np.quantile(contrast, [0.25, 0.5], axis=(1, 2))
    reach = 2 * max(2, round(2 * width_px)) + 1  # one peak for a spot that defocus stretches
    above = (contrast - middle[:, None, None]) / np.maximum((middle - quarter) / 0.674, 1e-9)[:, None, None]
    seen = np.argwhere((contrast == ndimage.maximum_filter(contrast, (1, reach, reach))) & (above > 0.5 * DETECTION_SIGMAS))
    return seen, above[tuple(seen.T)] > DETECTION_SIGMAS
