"""The page of an inspection: measure once more what the drawings show, and write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..calibrate.background import background_map
from ..calibrate.conditions import Conditions
from ..calibrate.light import DARKEST
from ..calibrate.photon_transfer import NoisePoints, choose_order, noise_points
from ..calibrate.sampling import Sample, take_sample
from ..calibrate.series import CameraMaps
from ..calibrate.spectrum import fit_spectrum
from ..data import Movie
from ..report import write_page
from ..report.inspection import Evidence, inspection_page
from ..units import PixelSize
from .inspection_facts import FIT_FRAMES, Fact, Light

LEAST_SIDE_PX = 16
"""Smaller frames leave nothing of a high-pass."""


def write_inspection_page(
    path: Path,
    movie: Movie,
    size: PixelSize,
    found: Conditions,
    light: Light,
    maps: CameraMaps | None,
    facts: Sequence[Fact],
    said: Sequence[tuple[str, str, str]],
    contradictions: Sequence[str],
    notes: Sequence[str],
    document: dict[str, Any] | None,
) -> None:
    """Draw what an inspection rests on and write it as one page.

    Args:
        path: the page.
        movie: the movie.
        size: (y, x) nm.
        found, light, maps: what was measured.
        facts: all of it with intervals and sources.
        said: what metadata propose: quantity, value, place.
        contradictions, notes: one line each.
        document: the experiment, or None.

    Raises:
        OutputError: the page cannot be written.
    """
    sample = take_sample(movie)
    offset, gain = found.offset_counts.value, found.counts_per_photon.value
    photons = (sample.counts - np.float32(offset)) / np.float32(gain)
    evidence = Evidence(
        found,
        size,
        _points(sample, found.width_nm.value / float(np.sqrt(size[0] * size[1]))),
        background_map(photons, found.noise_variance.value, found.excess.value),
        light.in_time,
        light.darkest,
        _darkest_values(sample.counts[:FIT_FRAMES], offset),
        light.spots,
        light.law,
        light.lifetime,
        light.depths,
        maps,
    )
    rows, columns = movie.shape_px
    run = {
        "movie": movie.name,
        "frames": f"{movie.n_frames} of {rows} x {columns} px; {len(sample.counts)} of {sample.counts.shape[1]} x {sample.counts.shape[2]} px "
        "were looked at for the camera",
        "pixel size": f"{size[1]:g} nm" if size[0] == size[1] else f"{size[1]:g} nm in x, {size[0]:g} nm in y",
    }
    if maps is not None:
        run["series"] = "dark and bright" if maps.gain is not None else "dark"
    write_page(
        path,
        inspection_page(
            f"What {movie.name} was taken under",
            [(f.name, f.value, f.low, f.high, f.unit, f.source) for f in facts],
            said,
            contradictions,
            notes,
            evidence,
            run=run,
            section=document,
        ),
    )


def _points(sample: Sample, width_px: float) -> NoisePoints | None:
    """Measure variance against mean as the estimate of the conditions does."""
    counts = sample.counts
    side = min(counts.shape[1:])
    if side < LEAST_SIDE_PX:
        return None
    spectrum = fit_spectrum(sample.fluctuation())
    power, floor = (spectrum.power, spectrum.floor) if spectrum else (0.0, 1.0)
    points = noise_points(counts, width_px, choose_order(width_px, power, floor, side), sample.saturation, sample.quantization)
    return points if len(points.mean) else None


def _darkest_values(counts: np.ndarray, offset: float) -> np.ndarray:
    """Give counts above the offset in the darkest pixels."""
    means = counts.mean(0)
    values: np.ndarray = counts[:, means <= np.quantile(means, DARKEST)].ravel().astype(np.float64) - offset
    return values
