"""Fit a PSF to beads, judge it, and write it as a file that documents and localizers take, with a report beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..calibrate.bead_fit import BeadFit, BeadPatches
from ..calibrate.beads import find_beads
from ..calibrate.first_guess import FORMULAS, best_focus, mean_bead
from ..calibrate.judge import Judgement, judge
from ..calibrate.psf_fit import LEAST_PLANES, PSFFit, fit_half, fit_psf
from ..calibrate.stack import BeadStack, measure_camera
from ..camera import SCMOS, Camera
from ..data import Movie
from ..errors import CalibrationError
from ..files import check_writable
from ..formats import open_movie
from ..formats.psf_files import psf_suffixes, write_psf
from ..optics import PupilSettings
from ..report import calibration_page, write_page
from ..units import PixelSize, is_plausible_pixel_size, pixel_size_pair

KINDS = ("spline", "parametric", "pupil", *FORMULAS)
WIDTHS = (".yaml", ".yml")
"""Suffixes of files that keep widths over a range of depths about 0, of a Gaussian without maps."""
OF_WIDTHS = ("parametric", "gaussian", "astigmatic")
MAP_STEP_NM = 100.0
MOST_PLANES = 2000
THICKNESS_NM = (50.0, 50_000.0)
"""Depths that a stack of beads may span."""
LARGEST_DEPTH_NM = 50_000.0
LEAST_GAIN = 0.01
"""Counts of a photon below which a stack was scaled: cameras give more."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A PSF, how it was found, and what it is worth.

    Args:
        psf: the file.
        page: the report, or None.
        fit: section, beads, chi2, residuals.
        judgement: errors over depth, usable range, warnings.
        notes: what was assumed, one sentence each.
        held_out: what was held out to judge on, in words, or None where the beads judge the PSF that was fitted to them.
    """

    psf: Path
    page: Path | None
    fit: PSFFit
    judgement: Judgement
    notes: tuple[str, ...]
    held_out: str | None = None

    @property
    def rejected(self) -> list[str]:
        """Each bead that was not used, with its place and the reason."""
        stacks = self.fit.stacks
        named = [f"{stacks[b.stack].name}, " if len(stacks) > 1 else "" for b in self.fit.beads]
        return [
            f"{name}row {b.row}, column {b.column}: {b.reason}" for name, b in zip(named, self.fit.beads, strict=True) if b.reason
        ]

    def record(self) -> dict[str, Any]:
        """Give what a PSF file keeps of it, as plain JSON values."""
        j, fit = self.judgement, self.fit
        known = j.z_rmse_nm is not None and j.z_crlb_nm is not None
        return {
            "program": "denseloc",
            "pixel_size_nm": fit.pixel_size_nm,
            "z_range_nm": j.usable_nm,
            "stacks": [stack.name for stack in fit.stacks],
            "beads": len(fit.used),
            "rejected": [
                {"stack": fit.stacks[b.stack].name, "row": b.row, "column": b.column, "reason": b.reason}
                for b in fit.beads
                if b.reason
            ],
            "chi2": fit.chi2,
            "wobble_nm": np.column_stack((j.depths_nm, j.wobble_nm)),
            "z_error_nm": np.column_stack((j.depths_nm, j.z_rmse_nm, j.z_crlb_nm)) if known else None,  # type: ignore[arg-type]
            "held_out": self.held_out,
            "warnings": j.warnings,
            "notes": self.notes,
        }


def calibrate(
    beads: Movie | Path | str | Sequence[Movie | Path | str],
    out: Path | str,
    *,
    z_step_nm: float,
    kind: str = "spline",
    camera: Camera | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    z_first_nm: float | None = None,
    planes: int | None = None,
    roi_px: int = 21,
    pupil: PupilSettings | None = None,
    free_phase: bool = False,
    held_out: bool = False,
    report: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Fit a PSF to stacks of beads and write it; a document takes it as ``psf = { file = "psf.h5" }``.

    Args:
        beads: one or several stacks, one frame a depth, or their files.
        out: file to write; ``.h5`` keeps everything, ``.json`` and ``.toml`` the section alone, ``.mat`` is for SMAP, ``.yaml`` for Picasso.
        z_step_nm: distance of two planes; below 0 where the depth falls from frame to frame.
        kind: "spline", "parametric" (the formula that suits best, with maps of what it misses), "pupil", or a formula's own name.
        camera: turns counts into photons; measured from the stacks if None.
        pixel_size_nm: one number or (y, x); None takes what the file says.
        z_first_nm: depth of the first frame; None puts 0 at best focus.
        planes: focal planes, where they follow one another as images of the file; None takes what the file says.
        roi_px: odd width of the PSF in pixels.
        pupil: what is known of the optics, for kind "pupil".
        free_phase: fit the phase in the pupil freely, after its polynomials.
        held_out: judge on beads (or planes) to which the PSF was not fitted; the PSF that is written is fitted to all of them.
        report: write a page beside the PSF, ``psf.report.html`` beside ``psf.h5``.
        progress: told what is going on.

    Raises:
        CalibrationError: no usable bead, an impossible number, or a PSF that cannot be trusted; nothing is written then.
        OutputError: a file cannot be written.
    """
    out = Path(out)
    page = out.with_suffix(".report.html") if report else None
    _check(out, page, kind, roi_px, z_step_nm, z_first_nm, pupil)
    given = [beads] if isinstance(beads, (Movie, Path, str)) else list(beads)
    if not given:
        raise CalibrationError("no bead stack was given; give one file or more")
    _check_once(given)
    movies = [one if isinstance(one, Movie) else open_movie(one) for one in given]
    movies = [movie if planes is None else movie.with_planes(planes) for movie in movies]
    size = _pixel_size(movies, pixel_size_nm)
    stacks, notes = _read(movies, camera, z_step_nm, z_first_nm, kind)
    if z_first_nm is None:
        stacks = [_focused(stack, size, roi_px) for stack in stacks]
        notes.append("z = 0 is where the beads are most compact")
    notes += _beside_focus(stacks)
    maps = 0.0 if out.suffix.lower() in WIDTHS else MAP_STEP_NM
    fit = fit_psf(stacks, size, kind, roi_px=roi_px, pupil=pupil, free_phase=free_phase, map_step_nm=maps, progress=progress)
    rest, words = fit_half(fit) if held_out else (None, None)
    progress("localizing the beads with the PSF")
    result = Calibration(out, page, fit, judge(fit, rest), tuple(notes), words)
    text = "" if page is None else calibration_page(fit, result.judgement, run=_run(result, movies, z_step_nm), held_out=words)
    write_psf(out, fit.psf, _to_write(result), pixel_size_nm=size)
    if page is not None:
        write_page(page, text)
    return result


def _check(
    out: Path,
    page: Path | None,
    kind: str,
    roi_px: int,
    z_step_nm: float,
    z_first_nm: float | None,
    pupil: PupilSettings | None,
) -> None:
    """Check what can be checked before anything is read."""
    if out.suffix.lower() not in psf_suffixes(to_write=True):
        known = ", ".join(psf_suffixes(to_write=True))
        raise CalibrationError(f"PSF file {out.name}: expected a name that ends in {known}")
    if kind not in KINDS:
        raise CalibrationError(f"no fit for a PSF of kind '{kind}'; known: {', '.join(KINDS)}")
    if out.suffix.lower() in WIDTHS and kind not in OF_WIDTHS:
        raise CalibrationError(
            f"PSF file {out.name}: it keeps the widths of a Gaussian, not a PSF of kind '{kind}'; take kind 'astigmatic' (--kind astigmatic), "
            "or write .h5"
        )
    if kind == "pupil" and pupil is None:
        raise CalibrationError(
            "a pupil needs to know the optics: give pupil=PupilSettings(...), on the command line --wavelength-nm, --na and --immersion-index"
        )
    if z_step_nm == 0 or not np.isfinite(z_step_nm):
        raise CalibrationError(f"z step {z_step_nm:g} nm; expected the distance of two planes of the stack in nm, such as 10")
    if z_first_nm is not None and not abs(z_first_nm) <= LARGEST_DEPTH_NM:
        raise CalibrationError(
            f"z of the first frame {z_first_nm:g} nm; expected {-LARGEST_DEPTH_NM:g} to {LARGEST_DEPTH_NM:g} nm, or none to put 0 into focus"
        )
    if roi_px % 2 == 0 or not 7 <= roi_px <= 99:
        raise CalibrationError(f"roi_px {roi_px}; expected an odd number of pixels from 7 to 99")
    check_writable(out)
    if page is not None:
        check_writable(page)


def _check_once(given: Sequence[Movie | Path | str]) -> None:
    """Refuse a stack that is given twice: its beads would count twice, and judge themselves."""
    paths = [Path(one).resolve() for one in given if not isinstance(one, Movie)]
    for path in paths:
        if paths.count(path) > 1:
            raise CalibrationError(f"{path.name} is given {paths.count(path)} times; give each stack once")


def _beside_focus(stacks: Sequence[BeadStack]) -> list[str]:
    """Say of each stack that does not go through focus, or whose depths do not."""
    told = []
    for stack in stacks:
        low, high = float(stack.z_nm[0]), float(stack.z_nm[-1])
        if len(stack.z_nm) >= LEAST_PLANES and not low < 0 < high:
            told.append(
                f"{stack.name}: its depths go from {low:.0f} to {high:.0f} nm, so that 0, the focus, is not inside; record more on the other side, "
                "or check the depth of the first frame"
            )
    return told


def _to_write(result: Calibration) -> dict[str, Any]:
    """Give the record; for a file of widths, with the largest range of depths about 0 that is usable.

    Raises:
        CalibrationError: 0 is not in the usable range.
    """
    record, (low, high) = result.record(), result.judgement.usable_nm
    if result.psf.suffix.lower() not in WIDTHS:
        return record
    half = min(-low, high)
    if half <= 0:
        raise CalibrationError(
            f"PSF file {result.psf.name}: it needs depths about 0, the usable ones go from {low:.0f} to {high:.0f} nm; write .h5"
        )
    return {**record, "z_range_nm": (-half, half)}


def _pixel_size(movies: list[Movie], given: float | tuple[float, float] | None) -> PixelSize:
    sizes = {pixel_size_pair(given)} if given is not None else {m.pixel_size_nm for m in movies}
    if None in sizes:
        raise CalibrationError(
            f"{movies[0].name} does not say its pixel size; give it: --pixel-size-nm 100, in Python pixel_size_nm=100"
        )
    if len(sizes) > 1:
        raise CalibrationError(
            "the stacks say different pixel sizes; give the right one: --pixel-size-nm 100, in Python pixel_size_nm=100"
        )
    (size,) = sizes
    assert size is not None
    if not is_plausible_pixel_size(size):
        raise CalibrationError(
            f"pixel size {size[1]:g} nm; expected 5 to 2000 nm in the sample plane: give --pixel-size-nm in nm, in Python pixel_size_nm"
        )
    return size


def _read(
    movies: list[Movie], camera: Camera | None, z_step_nm: float, z_first_nm: float | None, kind: str
) -> tuple[list[BeadStack], list[str]]:
    stacks, notes = [], []
    for movie in movies:
        n = movie.n_frames
        _check_planes(movie.name, n, z_step_nm, kind)
        counts = movie.read(*movie.frames)
        mine = camera.crop(*movie.roi_px) if camera is not None else None
        if mine is None:
            mine, words = _measured_camera(counts, movie.name)
            notes.append(f"{movie.name}: {words}")
        first = -z_step_nm * (n - 1) / 2 if z_first_nm is None else z_first_nm
        stacks.append(BeadStack.of(counts, first + z_step_nm * np.arange(n), mine, movie.name))
    if z_step_nm < 0:
        notes.append("the depth falls from frame to frame, as the z step says; depths were turned")
    return stacks, notes


def _check_planes(name: str, n: int, z_step_nm: float, kind: str) -> None:
    if n < LEAST_PLANES and kind != "gaussian":
        raise CalibrationError(f"{name} has {n} planes; expected a stack through focus, {LEAST_PLANES} planes or more")
    if n > MOST_PLANES:
        raise CalibrationError(
            f"{name} has {n} frames; expected a stack of beads, one frame a step of the stage, at most {MOST_PLANES}"
        )
    thickness = abs(z_step_nm) * (n - 1)
    if n >= LEAST_PLANES and not THICKNESS_NM[0] <= thickness <= THICKNESS_NM[1]:
        raise CalibrationError(
            f"{name}: {n} planes with a z step of {z_step_nm:g} nm span {thickness:g} nm; expected {THICKNESS_NM[0]:g} to {THICKNESS_NM[1]:g} nm: "
            "give --z-step-nm in nm, in Python z_step_nm"
        )


def _measured_camera(counts: np.ndarray, name: str) -> tuple[Camera, str]:
    """Make a camera of the offset and gain that the stack shows, and say so."""
    try:
        offset, gain = measure_camera(counts)
    except CalibrationError as error:
        raise CalibrationError(f"{name}: {error}") from None
    if gain.value < LEAST_GAIN:
        raise CalibrationError(
            f"{name}: values from {counts.min():.3g} to {counts.max():.3g} with {gain.value:.2g} for a photon, as if they were scaled; expected "
            "counts as the camera recorded them: export the stack again"
        )
    zero, electrons_per_count, variance = torch.tensor([offset, 1 / gain.value, 0.0])
    unsure = "which it hardly shows, so that photons and bounds may be wrong; " if gain.low < 0.5 * gain.value else ""
    words = (
        f"camera measured from the stack: offset {offset:.0f} counts, {gain.value:.3g} counts per photon ({gain.low:.3g} to {gain.high:.3g}); "
        f"{unsure}if you know it, give --camera, in Python camera"
    )
    return SCMOS(zero, electrons_per_count, variance, quantum_efficiency=1.0), words


def _focused(stack: BeadStack, pixel_size_nm: PixelSize, roi_px: int) -> BeadStack:
    """Put z = 0 at the plane in which the beads are most compact; a stack without usable beads stays as it is."""
    if len(stack.z_nm) < LEAST_PLANES:
        return stack
    try:
        usable = [bead for bead in find_beads([stack], roi_px) if bead.reason is None]
    except CalibrationError:  # the other stacks may have some; the fit says it where none has
        return stack
    return stack.moved(-best_focus(mean_bead(BeadFit(BeadPatches([stack], usable, roi_px)), pixel_size_nm)))


def _run(result: Calibration, movies: Sequence[Movie], z_step_nm: float) -> Mapping[str, str]:
    """Say what was done, line by line."""
    fit, size = result.fit, result.fit.pixel_size_nm
    stacks = zip(movies, fit.stacks, strict=True)
    return {
        "stacks": "\n".join(
            f"{movie.path or movie.name}: {len(stack.z_nm)} planes of {movie.shape_px[0]} x {movie.shape_px[1]} px"
            for movie, stack in stacks
        ),
        "PSF": f"{result.psf}: kind {type(fit.psf).model_fields['kind'].default}, {fit.psf.roi_px} px wide",
        "z step": f"{z_step_nm:g} nm",
        "pixel size": f"{size[0]:g} x {size[1]:g} nm (y, x)",
        "judged on": result.held_out or "the beads that it was fitted to",
        "notes": "\n".join(result.notes),
    }
