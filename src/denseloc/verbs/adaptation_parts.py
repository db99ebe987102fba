"""Parts of an adaptation: windows of the movie, the document of the adapted model, and what can be seen of a model's quality on real frames."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..blocks import frames_of
from ..camera import SCMOS, Camera
from ..data import Block, Emitters, Localizations, Movie
from ..errors import MovieError
from ..experiment import Experiment
from ..localize import Localizer
from ..localize.candidates import candidates
from ..microscope import Microscope
from ..optics import PSF
from ..preparation import Preparation, serves_many
from ..report.adaptation import Pictures
from ..train.theta import Beginning
from ..train.wake import Noise, Windows
from .inspection_document import camera_section

LEAST_FRAMES = 40
LEAST_MOLECULES = 100
SIDE_PX, LEAST_SIDE_PX = 32, 16
INNER = 3  # frames of a window that are looked at
MOST_BLOCKS, MOST_WINDOWS, MOST_HELD_OUT = 400, 2500, 60
HOLD_OUT = 6  # every so many blocks of frames one is held out
MOST_FULL = 1e-3  # share of full pixels
WIDER = 1.3  # ranges of the document reach so far beyond the movie's value
MOST_PULL = 6.0  # residuals count for no more than so many standard deviations
SHOWN = 3


def check_movie(movie: Movie) -> None:
    """Refuse, before anything is measured, movies from which nothing can be learned.

    Raises:
        MovieError: too short, too small, saturated.
    """
    if movie.n_frames < LEAST_FRAMES:
        raise MovieError(
            f"{movie.name} has {movie.n_frames} frames; expected {LEAST_FRAMES} or more to adapt a model to: take a longer movie"
        )
    if min(movie.shape_px) < LEAST_SIDE_PX:
        rows, columns = movie.shape_px
        raise MovieError(
            f"frames of {rows} x {columns} px; expected at least {LEAST_SIDE_PX} x {LEAST_SIDE_PX} to adapt a model to"
        )
    counts = movie.sample(20)
    if np.issubdtype(counts.dtype, np.integer):
        _refuse_full(movie, counts, float(np.iinfo(counts.dtype).max))


def check_light(movie: Movie, ready: Preparation) -> None:
    """Refuse movies whose pixels are full, or which hold hardly a molecule.

    Raises:
        MovieError: saturated, or without molecules.
    """
    _refuse_full(movie, movie.sample(20), ready.measured.saturation_counts)
    rows, columns = movie.shape_px
    y_nm, x_nm = ready.pixel_size_nm
    seen = ready.measured.density_per_um2.value * rows * y_nm * columns * x_nm * 1e-6 * movie.n_frames
    if seen < LEAST_MOLECULES:
        raise MovieError(
            f"about {seen:.0f} emitters are seen in the {movie.n_frames} frames of {movie.name}, expected {LEAST_MOLECULES} or more; take a movie "
            "with more light, or more frames"
        )


def _refuse_full(movie: Movie, counts: np.ndarray, limit: float) -> None:
    full = float(np.mean(counts >= limit))
    if full > MOST_FULL:
        raise MovieError(
            f"{full:.1%} of the pixels of {movie.name} are full (at {limit:.0f} counts); a model cannot learn from light that was cut off: "
            "record with less light or gain, or choose a region without such pixels (--roi)"
        )


def gather(movie: Movie, ready: Preparation, localizer: Localizer, seed: int) -> tuple[Windows, Windows]:
    """Cut windows from the movie: those to learn from, and those of held-out frames."""
    t = INNER + 2 * localizer.context
    side = min(SIDE_PX, *(length // localizer.align_px * localizer.align_px for length in movie.shape_px))
    first, last = movie.frames
    starts = np.arange(first, last - t + 1, t)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(len(starts), MOST_BLOCKS)).astype(int))]
    held = np.arange(len(starts)) % HOLD_OUT == HOLD_OUT - 1
    if not held.any():
        held[-1] = True
    rng = np.random.default_rng(seed)
    rows, columns = movie.shape_px
    at_once = max(1, (rows // side) * (columns // side))
    parts: tuple[list[Windows], list[Windows]] = ([], [])
    for out, most in ((False, MOST_WINDOWS), (True, MOST_HELD_OUT)):
        chosen = starts[held == out]
        each = min(at_once, max(1, math.ceil(most / len(chosen))))
        chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), max(1, most // each))).astype(int))]
        for start in chosen.tolist():
            frames = frames_of(
                Block(movie.read(start, start + t), start, start, start + t), movie, ready, torch.device("cpu")
            ).photons
            parts[out].extend(_cut(frames, side, ready, localizer, rng, movie.origin_px) for _ in range(each))
    return _joined(parts[0]), _joined(parts[1])


def _cut(
    photons: Tensor, side: int, ready: Preparation, localizer: Localizer, rng: np.random.Generator, origin_px: tuple[int, int]
) -> Windows:
    """Cut one window at a random place; ``origin_px`` (row, column) of the frames' first pixel in the field."""
    rows, columns = photons.shape[-2:]
    y, x = int(rng.integers(0, rows - side + 1)), int(rng.integers(0, columns - side + 1))
    told = ready.conditions
    if ready.background is None:
        level = torch.full((side, side), told.background)
    else:
        level = torch.from_numpy(ready.background[y : y + side, x : x + side].copy())
    row = replace(told, background=float(level.mean())).tensor(1) if is_told(localizer) else localizer.scales.reference.tensor(1)
    (y_nm, x_nm), (y0, x0) = ready.pixel_size_nm, origin_px
    return Windows(
        photons[None, :, :, y : y + side, x : x + side].clone(),
        level[None, None],
        row,
        torch.tensor([[(x0 + x) * x_nm, (y0 + y) * y_nm]]),
    )


def is_told(localizer: Localizer) -> bool:
    """Whether a localizer is told the conditions of each movie."""
    return bool(getattr(getattr(localizer, "settings", None), "is_told", False))


def _joined(parts: list[Windows]) -> Windows:
    return Windows(*(torch.cat(tensors) for tensors in zip(*(vars(part).values() for part in parts), strict=True)))


# ------------------------------------------------------------------------------------------------------------------------- document


def document_for(ready: Preparation, given: Camera | None, frames: int) -> Experiment:
    """Write down the experiment of the movie: the model's, with what the movie is known to have.

    A model that serves many microscopes gets the pixel size, the camera and the width of this one; ranges of density and background are
    widened where the movie lies outside of them.

    Args:
        ready: what was measured.
        given: the camera that the user gave, or None.
        frames: of a training window.
    """
    model, measured = ready.model.experiment, ready.measured
    values = model.to_json()
    specimen = values["specimen"]
    if serves_many(model):
        size = ready.pixel_size_nm
        values["pixel_size_nm"] = list(size)
        values["psf"] = {"kind": "gaussian", "width_nm": float(f"{measured.width_nm.value:.5g}"), "roi_px": model.psf.roi_px}
        values["camera"] = _camera(ready, given)
        values["training"]["psf_scale"] = [0.95, 1.05]
        values["name"] = f"{values['name']}, adapted"
        area = (size[0] * size[1]) / (model.pixel_size_nm[0] * model.pixel_size_nm[1])
        specimen["density_per_um2"] = _scaled(specimen["density_per_um2"], 1 / area)
        specimen["density_per_um2"] = _narrowed(specimen["density_per_um2"], measured.density_per_um2.value, 5.0)
        specimen["background"]["photons"] = _narrowed(specimen["background"]["photons"], ready.conditions.background, 2.5)
    specimen["density_per_um2"] = _widened(specimen["density_per_um2"], measured.density_per_um2.value)
    if "photons" in specimen["background"]:
        specimen["background"]["photons"] = _widened(specimen["background"]["photons"], ready.conditions.background)
    values["training"]["frames"] = max(values["training"]["frames"], frames)
    return Experiment.from_json(values, "the adapted model's document")


def _camera(ready: Preparation, given: Camera | None) -> Mapping[str, Any]:
    """Give the section of the movie's camera."""
    if isinstance(given, SCMOS) and given.offset.ndim:
        maps = torch.stack((given.offset, given.electrons_per_count, given.variance)).numpy()
        return {"kind": "scmos", "pixel_maps": maps, "quantum_efficiency": given.quantum_efficiency}
    if given is None and ready.measured.offset_counts.value < 0:
        raise MovieError(
            "the offset is below 0 counts, as if a background was taken away; adapt to the raw movie, or give the camera (--camera)"
        )
    return camera_section(ready.measured, given)


def _ends(level: Any) -> tuple[float, float]:
    return (float(level[0]), float(level[1])) if isinstance(level, (list, tuple)) else (float(level), float(level))


def _scaled(level: Any, factor: float) -> Any:
    low, high = _ends(level)
    return [low * factor, high * factor]


def _narrowed(level: Any, value: float, factor: float) -> Any:
    """Cut a range that was made for many movies down to a factor to both sides of a value."""
    low, high = _ends(level)
    return [max(low, min(value / factor, high)), min(high, max(value * factor, low))]


def _widened(level: Any, value: float) -> Any:
    """Let a range hold a value, with some room beyond it; one that does stays as it is."""
    low, high = _ends(level)
    if low <= value <= high or value <= 0:
        return level
    return [min(low, value / WIDER), max(high, value * WIDER)]


def beginning_of(ready: Preparation, document: Experiment) -> Beginning:
    """Say what theta begins with."""
    measured = ready.measured
    return Beginning(
        per_um2=max(measured.density_per_um2.value, 1e-4),
        photons=max(measured.photons.value, 10.0),
        photons_sd=0.6,
        z_nm=document.specimen.z_nm,
    )


def localizer_for(ready: Preparation) -> Localizer:
    """Copy the model's localizer, for the movie's pixels."""
    localizer = copy.deepcopy(ready.model.localizer)
    localizer.scales = replace(localizer.scales, pixel_size_nm=ready.pixel_size_nm)
    localizer.conditions, localizer.threshold = ready.conditions, None
    return localizer


# -------------------------------------------------------------------------------------------------------------------------- quality


@dataclass(frozen=True)
class Quality:
    """What a model makes of the held-out frames.

    Args:
        per_frame: localizations in a frame of the windows.
        probability: mean.
        sigma_nm: median lateral sigma (root of both variances), corrected where a correction is known.
        photons: median.
        chi2: mean squared residual in units of the expected variance, capped at 6 standard deviations; 1 is perfect.
    """

    per_frame: float
    probability: float
    sigma_nm: float
    photons: float
    chi2: float


@torch.no_grad()
def quality_of(
    localizer: Localizer, psf: PSF, background_factor: float, windows: Windows, noise: Noise, camera: Camera
) -> tuple[Quality, Pictures]:
    """Localize the inner frames of windows and compare the picture of what was found with them."""
    size = localizer.scales.pixel_size_nm
    microscope = Microscope(psf, camera, windows.grid(size))
    inner = windows.photons.shape[1] - 2 * localizer.context
    tables: list[Localizations] = []
    pictures: list[tuple[Tensor, Tensor, Tensor]] = []
    for i in range(len(windows)):
        one = windows.select(slice(i, i + 1))
        posterior = localizer.posterior_of_windows(one.photons, one.conditions)  # type: ignore[operator]
        table = localizer.decode(candidates(posterior, 0, (0, 0)))  # type: ignore[operator]
        tables.append(table if localizer.correction is None else localizer.correction.apply(table, size))
        frames = one.inner(localizer.context)
        emitters = _emitters(table, frames.device)
        level = (one.background * background_factor).expand(inner, frames.shape[1], -1, -1)
        place = one.origin_nm.expand(len(emitters), 2) if psf.varies_in_field else None
        expected = microscope.expected(emitters, level, origin_nm=place)
        residual = (frames - expected) / torch.sqrt(noise.excess * expected + noise.variance + 0.1)
        pictures.append((frames[inner // 2, 0], expected[inner // 2, 0], residual[:, 0]))
    table = Localizations.concat([t for t in tables if len(t)] or tables)
    rim = 3
    pulls = torch.stack([residual for _, _, residual in pictures])[..., rim:-rim, rim:-rim]
    chosen = np.unique(np.linspace(0, len(pictures) - 1, SHOWN).astype(int))
    data, model = (np.stack([pictures[i][k].cpu().numpy() for i in chosen]) for k in (0, 1))
    shown = Pictures(data, model, np.stack([pictures[i][2][inner // 2].cpu().numpy() for i in chosen]))
    return _summary(table, inner * len(windows), float(pulls.square().clamp(max=MOST_PULL**2).mean())), shown


def _summary(table: Localizations, frames: int, chi2: float) -> Quality:
    if not len(table):
        return Quality(0.0, math.nan, math.nan, math.nan, chi2)
    return Quality(
        per_frame=len(table) / frames,
        probability=float(np.mean(table.probability)),
        sigma_nm=float(np.median(np.hypot(table.sigma_x_nm, table.sigma_y_nm))),
        photons=float(np.median(table.photons)),
        chi2=chi2,
    )


def _emitters(table: Localizations, device: torch.device) -> Emitters:
    names = ("frame", "x_nm", "y_nm", "photons", *(("z_nm",) if table.is_3d else ()))
    columns = {name: torch.from_numpy(np.ascontiguousarray(table.columns[name])).to(device) for name in names}
    return Emitters.of(**{name: value if name == "frame" else value.float() for name, value in columns.items()})
