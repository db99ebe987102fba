"""Splines of other programs as our section, and any PSF as a spline of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from ...description import explain
from ...errors import CalibrationError
from ...optics import FieldSettings, PlanesSettings, PSFSettings
from ...optics.spline import SplineSettings
from ...units import PixelSize
from .cells import nodes
from .parts import depths, odd_roi

STEP_NM = 20.0
"""Distance of the planes in which a PSF without planes of its own is sampled."""

LEAST_TURN = 1e-6
"""Entry of a registration's matrix, less that of the identity, from which on it counts: 0.1 nm at 100 um from the centre."""

_MOST_PLANES = 500
_SMALLEST_ROI = 5


def spline_section(
    path: Path, cells: np.ndarray, z_nm: tuple[float, float], pixel_size_nm: PixelSize, notes: list[str]
) -> SplineSettings:
    """Make a section of cells (planes, z, y, x, 4, 4, 4), one node a pixel, z ascending.

    Cells that do not join as one spline are read at their nodes alone, which is noted.

    Args:
        path: named in errors.
        cells: polynomials.
        z_nm: depth of the first node, and distance of two.
        pixel_size_nm: (y, x).
        notes: lines of the record.

    Raises:
        CalibrationError: too few nodes for a patch.
    """
    roi_px = _roi(path, min(cells.shape[2:4]) + 1, cells.shape[1] + 1, 1)
    try:
        return SplineSettings.from_polynomials(cells, *z_nm, 1, roi_px, pixel_size_nm=pixel_size_nm)
    except (CalibrationError, ValidationError):
        notes.append("the polynomials do not join smoothly; a spline was laid through their nodes")
        return sampled_section(path, nodes(cells), z_nm, 1, pixel_size_nm)


def sampled_section(
    path: Path, samples: np.ndarray, z_nm: tuple[float, float], nodes_per_px: int, pixel_size_nm: PixelSize
) -> SplineSettings:
    """Make a section of samples (planes, z, y, x), z ascending; arguments as for `spline_section`.

    Raises:
        CalibrationError: too few nodes for a patch.
    """
    roi_px = _roi(path, min(samples.shape[2:]), samples.shape[1], nodes_per_px)
    try:
        return SplineSettings.from_samples(samples, *z_nm, nodes_per_px, roi_px, pixel_size_nm=pixel_size_nm)
    except (CalibrationError, ValidationError) as error:
        text = explain(error, SplineSettings) if isinstance(error, ValidationError) else str(error)
        raise CalibrationError(f"{path}: {text}; calibrate again") from None


def cells_for_export(
    path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize
) -> tuple[np.ndarray, float, float]:
    """Give a PSF as cells with one node a pixel and a node in the centre.

    A spline that is so already is given as it is; every other PSF is sampled, over ``z_range_nm`` of the record or its own range.

    Returns:
        Cells (planes, z, y, x, 4, 4, 4), the depth of the first node and the distance of two in nm.

    Raises:
        CalibrationError: the range of depths is not known.
    """
    if not _is_plain_spline(section):
        section = _sampled(path, section, record, pixel_size_nm)
    assert isinstance(section, SplineSettings)
    return section.polynomials(), section.z_min_nm, section.z_step_nm


def check_same_everywhere(path: Path, section: PSFSettings, pixel_size_nm: PixelSize) -> None:
    """Refuse a PSF that changes over the field, for files that have one PSF alone.

    Planes that are shifted against each other may pass: their patches show the shift.

    Raises:
        CalibrationError: with what it is that changes.
    """
    if changes := _changes(section, pixel_size_nm):
        raise CalibrationError(f"{path}: {changes}, which a '{path.suffix}' does not hold, one PSF for the whole field; write .h5")


def _changes(section: PSFSettings, pixel_size_nm: PixelSize) -> str:
    """Say what changes over the field, or nothing."""
    if isinstance(section, FieldSettings):
        return "the aberrations change over the field" if np.ptp(section.zernike_maps_nm, (1, 2)).any() else ""
    if not isinstance(section, PlanesSettings):
        return "the PSF changes over the field" if section.build(pixel_size_nm).varies_in_field else ""
    for number, plane in enumerate(section.plane, 1):
        if inner := _changes(plane.psf, pixel_size_nm):
            return f"in plane {number} {inner}"
        if not np.allclose(np.array(plane.affine)[:, :2], np.eye(2), rtol=0, atol=LEAST_TURN):
            return f"plane {number} is turned or stretched against the first"
    return ""


def _is_plain_spline(section: PSFSettings) -> bool:
    if not isinstance(section, SplineSettings) or section.nodes_per_px != 1:
        return False
    cells = section.polynomials().shape
    return cells[1] > 1 and cells[2] == cells[3] and cells[2] % 2 == 0


def _sampled(path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize) -> SplineSettings:
    low, high = depths(path, section, record, pixel_size_nm)
    steps = int(np.ceil((high - low) / STEP_NM - 1e-9))
    if not 3 <= steps < _MOST_PLANES:
        raise CalibrationError(
            f"{path}: depths from {low:g} to {high:g} nm, expected a range of {3 * STEP_NM:g} to {_MOST_PLANES * STEP_NM:g} nm; correct it"
        )
    z = torch.linspace(low, high, steps + 1)
    with torch.no_grad():
        patches = section.build(pixel_size_nm)(torch.zeros(len(z), 2), z)
    samples = patches.transpose(0, 1).double().numpy()
    roi_px = odd_roi(section.roi_px, 1)
    return SplineSettings.from_samples(
        samples, low, (high - low) / steps, 1, max(roi_px, _SMALLEST_ROI), pixel_size_nm=pixel_size_nm
    )


def _roi(path: Path, nodes: int, planes: int, nodes_per_px: int) -> int:
    roi_px = odd_roi(nodes, nodes_per_px)
    if roi_px < _SMALLEST_ROI or planes < 4:
        raise CalibrationError(
            f"{path}: {planes} planes of {nodes} x {nodes} nodes, expected at least 4 planes and {_SMALLEST_ROI + 2} nodes; calibrate again"
        )
    return roi_px
