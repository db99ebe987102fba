"""What a PSF must be like to be one, whatever file it came from: lengths in nm, light between none and all of it, a record of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import CalibrationError
from ...optics import PSF, PSFSettings
from ...units import PixelSize, is_plausible_pixel_size, pixel_size_pair

WIDTH_NM = (10.0, 5000.0)
SPAN_NM = (20.0, 1e5)
"""Least and largest range of depths of a PSF that tells depths."""
FARTHEST_NM = 1e6
LIGHT = (0.01, 2.0)
"""Sum of a PSF's brightest image; of a perfect one nearly 1, of one in a patch that cuts it less."""
MOST_NEGATIVE = 0.3
"""Light below 0 over that above it; noise in a measured PSF gives some."""
DEPTHS = 9


def check_possible(path: Path, section: PSFSettings, record: Mapping[str, Any]) -> None:
    """Refuse what has the form of a PSF but cannot be one, as in another unit or of another kind of numbers.

    Raises:
        CalibrationError: an impossible record, width, range of depths or amount of light.
    """
    size = _pixel_size(path, record.get("pixel_size_nm"))
    _check_range(path, record.get("z_range_nm"))
    size = getattr(section, "pixel_size_nm", None) or size
    if size is None:
        return
    width = section.width_in_focus_nm()
    if not WIDTH_NM[0] <= width <= WIDTH_NM[1]:
        raise CalibrationError(
            f"{path}: a PSF {width:.3g} nm wide in focus, expected {WIDTH_NM[0]:g} to {WIDTH_NM[1]:g} nm; give its lengths in nm"
        )
    psf = section.build(pixel_size_pair(size))
    _check_depths(path, psf)
    _check_light(path, psf)


def _pixel_size(path: Path, value: Any) -> PixelSize | None:
    if value is None:
        return None
    numbers = list(value) if isinstance(value, (list, tuple)) else [value, value]
    is_pair = len(numbers) == 2 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers)
    if not is_pair or not is_plausible_pixel_size((float(numbers[0]), float(numbers[1]))):
        raise CalibrationError(
            f"{path}: pixel_size_nm of the record is {str(value)[:60]}, expected one or two numbers of 5 to 2000 nm; correct or write the file again"
        )
    return float(numbers[0]), float(numbers[1])


def _check_range(path: Path, value: Any) -> None:
    if value is None:
        return
    good = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value)
    if not good or not -FARTHEST_NM <= value[0] <= value[1] <= FARTHEST_NM:
        raise CalibrationError(
            f"{path}: z_range_nm of the record is {str(value)[:60]}, expected (low, high) in nm; correct or write the file again"
        )


def _check_depths(path: Path, psf: PSF) -> None:
    if psf.z_range_nm is None:
        return
    low, high = psf.z_range_nm
    if not SPAN_NM[0] <= high - low <= SPAN_NM[1] or max(abs(low), abs(high)) > FARTHEST_NM:
        raise CalibrationError(
            f"{path}: depths from {low:.4g} to {high:.4g} nm, expected a range of {SPAN_NM[0]:g} to {SPAN_NM[1]:g} nm; give depths and steps in nm"
        )


@torch.no_grad()
def _check_light(path: Path, psf: PSF) -> None:
    low, high = psf.z_range_nm or (-300.0, 300.0)
    images = psf(torch.zeros(DEPTHS, 2), torch.linspace(low, high, DEPTHS)).double().flatten(1)
    light, below = images.sum(1), -images.clamp(max=0).sum(1)
    brightest = float(light.max())
    if not LIGHT[0] <= brightest <= LIGHT[1] * psf.planes:
        raise CalibrationError(
            f"{path}: the PSF's brightest image holds {brightest:.3g} times its photons, expected about 1; give fractions of the photons, and "
            "lengths in nm"
        )
    share = float(np.median((below / images.clamp(min=0).sum(1).clamp(min=1e-12)).numpy()))
    if share > MOST_NEGATIVE:
        raise CalibrationError(
            f"{path}: {100 * share:.0f} % as much light below 0 as above, expected the image of a point; calibrate again or correct the file"
        )
