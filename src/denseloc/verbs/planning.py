"""Say what PSFs let one expect of a measurement before it is made: bounds over depth, and what is left of them in a crowd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..camera import Camera
from ..errors import CalibrationError, DocumentError, OutputError
from ..files import check_writable
from ..fit import DEPTHS_NM, Expectation, Light, bounds_in_crowd, bounds_over_depth
from ..formats.psf_files import foreign_notes, read_psf
from ..optics import PSF
from ..report import plan_page, write_page
from ..units import PixelSize, pixel_size_pair

DENSITIES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Emitters per um^2 and frame for which a crowd is reckoned where none is given."""
DEPTH_STEPS = 31
MOST_PSFS = 6


@dataclass(frozen=True, eq=False)
class Plan:
    """What some PSFs let one expect under the same light.

    Args:
        light: photons, background and camera noise.
        expectations: one for each PSF, in the order given.
        page: the report, or None.
    """

    light: Light
    expectations: tuple[Expectation, ...]
    page: Path | None

    def to_json(self) -> dict[str, Any]:
        """Give all numbers as plain JSON values."""
        return {"light": vars(self.light), "expectations": [one.to_json() for one in self.expectations]}


def plan(
    psfs: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    *,
    photons: float = 1000.0,
    background: float = 10.0,
    densities: Sequence[float] = DENSITIES,
    z_range_nm: tuple[float, float] | None = None,
    camera: Camera | None = None,
    pixel_size_nm: float | PixelSize | None = None,
    scenes: int = 150,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Reckon the Cramer-Rao bounds of PSFs over depth, and which share of crowded emitters can be told apart.

    Args:
        psfs: one or several files: PSFs as `denseloc.formats.psf_files.read_psf` reads them, or experiment documents.
        out: page to write, or None for none.
        photons: of an emitter in a frame.
        background: photons per pixel and frame.
        densities: emitters per um^2 and frame.
        z_range_nm: depths of the emitters; None takes those at which all PSFs that tell depths are known.
        camera: adds its noise; an ideal one if None.
        pixel_size_nm: one number or (y, x), for files that do not say it.
        scenes: drawn at each density.
        seed: of the scenes.
        progress: told what is going on.

    Raises:
        DocumentError: an impossible number.
        CalibrationError: a file holds no PSF, or does not say its pixel size.
        OutputError: the page cannot be written.
    """
    given = [psfs] if isinstance(psfs, (str, Path)) else list(psfs)
    _check(given, photons, background, densities, z_range_nm)
    if out is not None:
        if Path(out).suffix.lower() not in (".html", ".htm"):
            raise OutputError(f"page {Path(out).name}: expected a name that ends in .html; rename it")
        check_writable(Path(out))
    light = _light(photons, background, camera)
    read = [_read(Path(path), pixel_size_nm, progress) for path in given]
    names = [path.name for path in map(Path, given)]
    names = names if len(set(names)) == len(names) else [str(path) for path in given]
    names, read = _by_colour(names, read)
    found = []
    z_range_nm = z_range_nm or _common([psf for psf in read if psf.settings.tells_depth])
    for name, psf in zip(names, read, strict=True):
        progress(f"reckoning the bounds of {name}")
        depths = _depths(name, psf, z_range_nm)
        places = np.linspace(*depths, DEPTH_STEPS) if depths[1] > depths[0] else np.array([depths[0]])
        crowds = tuple(
            bounds_in_crowd(psf, density, depths, light, torch.Generator().manual_seed(seed), scenes)
            for density in sorted(set(densities))
        )
        found.append(Expectation(name, psf, depths, bounds_over_depth(psf, places, light), crowds))
    result = Plan(light, tuple(found), None if out is None else Path(out))
    if result.page is not None:
        write_page(result.page, plan_page(result.expectations, light))
    return result


def _check(
    psfs: list[Path | str], photons: float, background: float, densities: Sequence[float], z_range_nm: tuple[float, float] | None
) -> None:
    if not 1 <= len(psfs) <= MOST_PSFS:
        raise DocumentError(f"{len(psfs)} PSFs, expected 1 to {MOST_PSFS} files to compare")
    if not 1 <= photons <= 1e7:
        raise DocumentError(f"photons {photons:g}; expected the photons of an emitter in a frame, 1 to 1e7")
    if not 0 <= background <= 1e6:
        raise DocumentError(f"background {background:g}; expected photons per pixel and frame, 0 to 1e6")
    if not densities or not all(0 < density <= 100 for density in densities):
        raise DocumentError(f"densities {list(densities)}; expected emitters per um^2 and frame, above 0 and up to 100")
    if z_range_nm is not None and not -1e5 <= z_range_nm[0] <= z_range_nm[1] <= 1e5:
        raise DocumentError(f"depths {z_range_nm[0]:g} to {z_range_nm[1]:g} nm; expected them from low to high")


def _common(psfs: Sequence[PSF]) -> tuple[float, float] | None:
    """Give the depths at which all PSFs are known; None where none tells depths."""
    ranges = [psf.z_range_nm or DEPTHS_NM for psf in psfs]
    if not ranges:
        return None
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    if low >= high:
        raise DocumentError(
            "the PSFs are known at depths that have nothing in common; plan them one by one, or give z_range_nm (--z-nm)"
        )
    return low, high


def _by_colour(names: Sequence[str], psfs: Sequence[PSF]) -> tuple[list[str], list[PSF]]:
    """Put the channels of PSFs of several colours beside each other, as PSFs of their own."""
    each = [
        (name if psf.channels == 1 else f"{name}, channel {number}", psf.in_channel(number))
        for name, psf in zip(names, psfs, strict=True)
        for number in range(psf.channels)
    ]
    return [name for name, _ in each], [psf for _, psf in each]


def _depths(name: str, psf: PSF, asked: tuple[float, float] | None) -> tuple[float, float]:
    """Give the depths for a PSF; a flat one is the same at all.

    Raises:
        DocumentError: the PSF is not known at depths that were asked for.
    """
    depths = asked or (0.0, 0.0)
    known = psf.z_range_nm
    if known is not None and not (known[0] - 1 <= depths[0] and depths[1] <= known[1] + 1):
        raise DocumentError(
            f"{name} is known from {known[0]:.0f} to {known[1]:.0f} nm, asked for {depths[0]:g} to {depths[1]:g} nm; "
            f"give depths inside: --z-nm {known[0]:.0f},{known[1]:.0f}, in Python z_range_nm"
        )
    return depths


def _light(photons: float, background: float, camera: Camera | None) -> Light:
    if camera is None:
        return Light(photons, background)
    excess = float(torch.as_tensor(camera.excess, dtype=torch.float32).mean())
    return Light(photons, background, excess, float(torch.as_tensor(camera.noise_variance((1, 1)), dtype=torch.float32).mean()))


def _read(path: Path, pixel_size_nm: float | PixelSize | None, progress: Callable[[str], None]) -> PSF:
    section, record = read_psf(path, pixel_size_nm=pixel_size_nm)
    for note in foreign_notes(record):
        progress(f"note: {path.name}: {note}")
    size = record.get("pixel_size_nm") if pixel_size_nm is None else pixel_size_nm
    if size is None:
        raise CalibrationError(f"{path}: does not say its pixel size; give it: --pixel-size-nm 100, in Python pixel_size_nm=100")
    return section.build(pixel_size_pair(tuple(size) if isinstance(size, (list, tuple)) else size))
