"""Fit a PSF to beads and write it as a part of a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tomli_w

from ..calibrate.beads import BeadFit, fit_beads
from ..camera import Camera
from ..data import Movie
from ..errors import CalibrationError, OutputError
from ..files import check_writable, replacing
from ..formats import open_movie
from ..units import pixel_size_pair

KINDS = ("gaussian", "astigmatic", "double_helix")


def calibrate(
    beads: Movie | Path | str,
    out: Path | str,
    *,
    kind: str,
    z_step_nm: float,
    camera: Camera,
    pixel_size_nm: float | tuple[float, float] | None = None,
    z_first_nm: float | None = None,
    roi_px: int = 21,
    progress: Callable[[str], None] = lambda _: None,
) -> BeadFit:
    """Fit a PSF to a stack of beads and write its section; a document takes it as ``[psf]`` with ``file = "psf.json"``.

    Args:
        beads: a stack, one frame a depth, or its file.
        out: section to write, ending in .json or .toml.
        kind: "gaussian", "astigmatic" or "double_helix".
        z_step_nm: distance of two planes; below 0 where the depth falls from frame to frame.
        camera: turns counts into photons.
        pixel_size_nm: one number or (y, x); None takes what the file says.
        z_first_nm: depth of the first frame; None puts 0 in the middle of the stack.
        roi_px: odd width of the PSF in pixels.
        progress: told what is going on.

    Raises:
        CalibrationError: no usable bead, or a number is impossible.
        OutputError: the file cannot be written.
    """
    out = Path(out)
    if out.suffix not in (".json", ".toml"):
        raise OutputError(f"PSF file {out.name}: expected a name that ends in .json or .toml")
    if kind not in KINDS:
        raise CalibrationError(f"no fit for a PSF of kind '{kind}'; known: {', '.join(KINDS)}")
    if z_step_nm == 0:
        raise CalibrationError("z step 0 nm; expected the distance of two planes of the stack in nm")
    check_writable(out)
    movie = beads if isinstance(beads, Movie) else open_movie(beads)
    size = pixel_size_nm or movie.pixel_size_nm
    if size is None:
        raise CalibrationError(f"{movie.name} does not say its pixel size; give it: --pixel-size-nm 100")
    stack = movie.read(*movie.frames)[:, 0]
    if len(stack) < 3 and kind != "gaussian":
        raise CalibrationError(f"{movie.name} has {len(stack)} planes; expected a stack through focus for a PSF of kind '{kind}'")
    first = -z_step_nm * (len(stack) - 1) / 2 if z_first_nm is None else z_first_nm
    z = first + z_step_nm * np.arange(len(stack))
    fit = fit_beads(stack, z, camera.crop(*movie.roi_px), pixel_size_pair(size), kind, roi_px=roi_px, progress=progress)
    section = fit.psf.model_dump(mode="json", exclude_none=True)
    text = json.dumps(section, indent=1) if out.suffix == ".json" else tomli_w.dumps({"psf": section})
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return fit
