"""Widths of a Gaussian PSF against depth, from curves of other programs to our formula and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import CalibrationError
from ...optics import AstigmaticPSF, AstigmaticSettings, GaussianPSF, GaussianSettings, PSFSettings
from ...optics.base import gaussian_width
from ...units import PixelSize
from .parts import depths

LARGEST_DEVIATION = 0.05
"""Fraction of the width above which a formula and a curve are said to differ."""

SPAN_NM = (20.0, 1e5)
NARROWEST_NM = (10.0, 5000.0)
"""What depths and widths may be; outside, they are in another unit."""

_STARTS = ((1.0, 0.0, 0.0), (0.6, 0.0, 0.1), (1.6, 0.0, 0.0), (1.0, 0.3, 0.1), (1.0, -0.3, 0.1))
"""Depths of focus in units of the first guess, and coefficients A and B, from which the fit sets out."""


def fit_formula(
    path: Path, z_nm: np.ndarray, width_x_nm: np.ndarray, width_y_nm: np.ndarray
) -> tuple[AstigmaticSettings, dict[str, Any]]:
    """Fit the astigmatic formula to two curves of widths, the first axis along x.

    Least squares of the logarithms of the widths, so that a deviation counts as a fraction of the width.

    Args:
        path: named in errors.
        z_nm: (n,) depths.
        width_x_nm, width_y_nm: (n,) Gaussian standard deviations along x (columns) and y (rows).

    Returns:
        The section, and what goes into the record: range, deviation and curves.

    Raises:
        CalibrationError: fewer than 8 depths, or widths that are not positive.
    """
    curves = np.stack((width_x_nm, width_y_nm))
    if len(z_nm) < 8 or not np.isfinite(curves).all() or not np.isfinite(z_nm).all() or curves.min() <= 0 or np.ptp(z_nm) <= 0:
        found = f"{len(z_nm)} depths, smallest width {curves.min():.3g} nm" if curves.size else "no depths"
        raise CalibrationError(f"{path}: {found}; expected at least 8 depths with positive widths; correct the calibration")
    span, narrowest = float(np.ptp(z_nm)), float(curves.min())
    if not SPAN_NM[0] <= span <= SPAN_NM[1] or not NARROWEST_NM[0] <= narrowest <= NARROWEST_NM[1]:
        raise CalibrationError(
            f"{path}: widths from {narrowest:.3g} nm over {span:.3g} nm of depth; expected {NARROWEST_NM[0]:g} to {NARROWEST_NM[1]:g} nm over "
            f"{SPAN_NM[0]:g} to {SPAN_NM[1]:g} nm: give depths and steps in nm, and the right pixel size"
        )
    values = _best_fit(z_nm, curves)
    section = AstigmaticSettings(roi_px=15, **{name: float(value) for name, value in values.items()})
    fitted = np.stack(_formula(section, z_nm))
    deviation = np.abs(fitted / curves - 1)
    largest = float(deviation.max())
    axis, at = np.unravel_index(int(deviation.argmax()), deviation.shape)
    notes = []
    if largest > LARGEST_DEVIATION:
        place = f"at z = {z_nm[at]:g} nm along {'xy'[axis]}"
        notes.append(f"the formula differs from the curve of the file by up to {100 * largest:.0f} % of the width ({place})")
    record = {
        "z_range_nm": (float(z_nm.min()), float(z_nm.max())),
        "largest_deviation": largest,
        "mean_deviation": float(deviation.mean()),
        "notes": notes,
    }
    return section, record


def _best_fit(z_nm: np.ndarray, curves: np.ndarray) -> dict[str, float]:
    from scipy.optimize import least_squares

    span = float(np.ptp(z_nm))
    lowest = curves.argmin(1)
    start_width, start_focus = curves.min(1), z_nm[lowest]
    logs = np.log(curves)
    names = ("width_nm", "width_ratio", "focus_a_nm", "focus_b_nm", "depth_nm", "cubic", "quartic")

    def residual(p: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(w) for w in _widths(p, z_nm)]) - logs.reshape(-1)

    low = np.array([1e-3 * start_width[0], 0.05, z_nm.min() - span, z_nm.min() - span, 1e-3 * span, -3.0, 0.0])
    high = np.array([10 * start_width[0], 20.0, z_nm.max() + span, z_nm.max() + span, 1e2 * span, 3.0, 1e4])
    fits = []
    for depth, cubic, quartic in _STARTS:
        ratio = start_width[1] / start_width[0]
        start = np.array([start_width[0], ratio, *start_focus, depth * 0.4 * span, cubic, quartic])
        scale = np.array([start_width[0], 1.0, span, span, span, 1.0, 1.0])
        fits.append(least_squares(residual, np.clip(start, low + 1e-9, high - 1e-9), bounds=(low, high), x_scale=scale))
    best = min(fits, key=lambda fit: fit.cost)
    return dict(zip(names, best.x, strict=True))


def _widths(p: np.ndarray, z_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = torch.from_numpy(np.asarray(z_nm, np.float64))
    width, ratio, focus_a, focus_b, depth, cubic, quartic = (torch.tensor(v, dtype=torch.float64) for v in p)
    first = gaussian_width(z, width, focus_a, depth, cubic, quartic)
    return first.numpy(), gaussian_width(z, width * ratio, focus_b, depth, cubic, quartic).numpy()


def _formula(section: AstigmaticSettings, z_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s = section
    return _widths(np.array([s.width_nm, s.width_ratio, s.focus_a_nm, s.focus_b_nm, s.depth_nm, s.cubic, s.quartic]), z_nm)


def curves_of(
    path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give depths and the widths along x and y of a Gaussian PSF at ``n`` depths.

    Raises:
        CalibrationError: the PSF is not a Gaussian along the axes of the pixels that widens with depth.
    """
    if not isinstance(section, (AstigmaticSettings, GaussianSettings)) or section.residual_maps is not None:
        maps = " with residual maps" if section.residual_maps is not None else ""
        raise CalibrationError(
            f"{path}: a PSF of kind '{getattr(section, 'kind', '?')}'{maps} has no curves of widths; write .h5 or .mat"
        )
    turned = section.angle_deg if isinstance(section, AstigmaticSettings) else 0.0
    if turned % 90 != 0:
        raise CalibrationError(
            f"{path}: the PSF is turned by {turned:g} degrees, expected axes along the pixels (0 or 90); write .h5 or .mat"
        )
    low, high = depths(path, section, record, pixel_size_nm)
    z = np.linspace(low, high, n)
    psf = section.build(pixel_size_nm)
    with torch.no_grad():
        at = torch.from_numpy(z)
        if isinstance(psf, AstigmaticPSF):
            a, b = psf.double().widths_nm(at)
        else:
            assert isinstance(psf, GaussianPSF)
            a = b = torch.full_like(at, float(psf.width_nm)) if psf.depth_nm is None else _gaussian_widths(psf, at)
    first, second = a.numpy(), b.numpy()
    return (z, first, second) if turned % 180 == 0 else (z, second, first)


def _gaussian_widths(psf: GaussianPSF, z_nm: torch.Tensor) -> torch.Tensor:
    assert psf.depth_nm is not None
    return gaussian_width(z_nm, psf.width_nm.double(), psf.focus_nm.double(), psf.depth_nm.double())
