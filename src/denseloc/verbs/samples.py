"""Sample frames of a run: the raw frame in photons, and what the model expects of it from the localizations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..camera import Camera
from ..data import Emitters, Grid, Localizations, Movie
from ..errors import CameraError, DenselocError, MovieError
from ..experiment import Experiment
from ..formats import open_movie
from ..localize import InputConditions
from ..microscope import Microscope
from ..preparation import OF_DOCUMENT, uneven_background
from ..report import FrameSample
from ..suitability import serves_many

SHARES = (0.2, 0.5, 0.8)
"""Which of the frames that hold localizations are shown, from the first to the last."""
LEAST_LOCALIZATIONS = 5
"""Localizations in a frame from which on their own backgrounds set the level."""


RIM_PX = 3
"""Rim of a frame that is left out of the comparison, unless the frame is small: molecules beyond the edge shine into it."""
LEAST_SIDE_PX = 16


@dataclass(frozen=True)
class Exposure:
    """How a run saw its movie, as its table says.

    Args:
        experiment: the document of the model.
        conditions: what the localizer was told.
        offset_counts, counts_per_photon: the camera.
        uneven_background: whether the background was followed pixel by pixel.
        pixels: the camera of the whole field where its pixels differ and the table holds its maps; None leaves offset and mean gain.
        pixels_unknown: the pixels differ, but the table does not say how.
    """

    experiment: Experiment
    conditions: InputConditions
    offset_counts: float
    counts_per_photon: float
    uneven_background: bool
    pixels: Camera | None = None
    pixels_unknown: bool = False

    @staticmethod
    def of(table: Localizations) -> Exposure | None:
        """Read it from the provenance; None where that does not say all of it."""
        settings: Mapping[str, Any] = table.provenance.settings or {}
        try:
            camera = settings["camera"]
            experiment = Experiment.from_json(table.provenance.experiment or {}, "the table's experiment")
            differ, own = bool(camera.get("pixel_maps", False)), camera.get("source") == OF_DOCUMENT
            return Exposure(
                experiment=experiment,
                conditions=InputConditions(**{name: float(value) for name, value in settings["conditions"].items()}),
                offset_counts=float(camera["offset_counts"]),
                counts_per_photon=float(camera["counts_per_photon"]),
                uneven_background=bool(settings.get("uneven_background", False)),
                pixels=experiment.build_camera() if differ and own else None,
                pixels_unknown=differ and not own,
            )
        except (KeyError, TypeError, ValueError, AttributeError, DenselocError):
            return None

    def of_region(self, movie: Movie) -> Exposure:
        """Give the exposure of a movie's region; one with unknown pixels where the maps do not reach so far."""
        if self.pixels is None:
            return self
        try:
            return replace(self, pixels=self.pixels.crop(*movie.roi_px))
        except CameraError:
            return replace(self, pixels=None, pixels_unknown=True)

    @torch.no_grad()
    def photons(self, counts: np.ndarray) -> np.ndarray:
        """Turn counts into photons."""
        if self.pixels is not None:
            return self.pixels.to_photons(torch.from_numpy(counts.astype(np.float32))).numpy()
        return ((counts.astype(np.float32) - self.offset_counts) / self.counts_per_photon).astype(np.float32)


def reopen(table: Localizations, beside: Path | None, movie: Movie | Path | str | None) -> tuple[Movie | None, str]:
    """Find the movie of a table again, cut to what was localized; without it, give a sentence that says why.

    Args:
        table: with its provenance.
        beside: folder of the table, in which the movie is looked for too.
        movie: the movie or its file where the user said it.
    """
    known = table.provenance
    if isinstance(movie, Movie):
        return _cut(movie, table)
    if movie is None and known.movie is None:
        return None, "The table does not say which movie it was made from; give the movie to see raw frames."
    named = Path(movie if movie is not None else str(known.movie))
    places = [named] if movie is not None or beside is None else [named, beside / named, beside / named.name]
    there = next((place for place in places if place.exists()), None)
    if there is None:
        return None, f"The movie {named} is not there, so no raw frames are shown; give the movie to see them."
    try:
        return _cut(open_movie(there, allow_truncated=True), table)
    except MovieError as error:
        return None, f"The movie could not be read, so no raw frames are shown: {error}"


def _cut(movie: Movie, table: Localizations) -> tuple[Movie | None, str]:
    """Restrict a movie to the frames and the region that were localized; refuse one that cannot be the table's."""
    known = table.provenance
    planes, frames, roi = (_whole_numbers(known.settings.get(name), n) for name, n in (("planes", 1), ("frames", 2), ("roi_px", 4)))
    if planes is not None and planes[0] != movie.n_planes:
        movie = movie.with_planes(planes[0])
    if known.shape_px is not None and tuple(known.shape_px) != movie.field_px:
        mine, theirs = (f"{shape[0]} x {shape[1]} px" for shape in (movie.field_px, known.shape_px))
        return (
            None,
            f"{movie.name} has frames of {mine}, the table was made from {theirs}: another movie, so no raw frames are shown.",
        )
    last = int(table.frame.max()) if len(table) else 0
    if last >= movie.frames[1] or (frames is not None and frames[1] > movie.frames[1]):
        end = max(last, 0 if frames is None else frames[1] - 1)
        return None, f"{movie.name} ends before frame {end} of the table: another movie, so no raw frames are shown."
    if frames is not None and roi is not None:
        movie = movie.crop((frames[0], frames[1]), (roi[0], roi[1], roi[2], roi[3]))
    return replace(movie, pixel_size_nm=known.pixel_size_nm or movie.pixel_size_nm), ""


def _whole_numbers(value: Any, n: int) -> tuple[int, ...] | None:
    """Give n whole numbers as they stand in the settings of a table; None where something else stands there."""
    given = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return given if len(given) == n and all(type(one) is int and one >= 0 for one in given) else None


def sample_frames(table: Localizations, movie: Movie, exposure: Exposure) -> list[FrameSample]:
    """Take three frames that hold localizations, early, midway and late, with the model's picture of them (first plane).

    Where the pixels of the camera differ in an unknown way there is no such picture: what they add would be taken for faults of the model.
    """
    held = np.unique(table.frame[(table.frame >= movie.frames[0]) & (table.frame < movie.frames[1])])
    if not len(held) or table.provenance.pixel_size_nm is None or "photons" not in table:
        return []
    chosen = np.unique(held[[int(share * (len(held) - 1)) for share in SHARES]])
    exposure = exposure.of_region(movie)
    if exposure.pixels_unknown:
        size, origin = table.provenance.pixel_size_nm, movie.origin_px
        raw = [(int(frame), exposure.photons(movie.read(int(frame), int(frame) + 1)[0, 0])) for frame in chosen]
        return [FrameSample(frame, photons, pixel_size_nm=size, origin_px=origin) for frame, photons in raw]
    level = _background(movie, exposure)
    return [_sample(int(frame), table.select(table.frame == frame), movie, exposure, level) for frame in chosen]


def _sample(frame: int, here: Localizations, movie: Movie, exposure: Exposure, level: np.ndarray) -> FrameSample:
    """Put a raw frame beside its expectation; the variance is ``excess * expected + noise_variance``, and NaN where nothing is compared."""
    size = here.provenance.pixel_size_nm
    assert size is not None
    conditions = exposure.conditions
    expected = _expected(here, movie, exposure, level * _brightness(here, movie, level))
    noise = conditions.noise_variance if exposure.pixels is None else exposure.pixels.noise_variance(movie.shape_px).numpy()
    variance = (conditions.excess * expected + noise).astype(np.float32)
    if min(movie.shape_px) >= LEAST_SIDE_PX:
        inside = np.zeros(movie.shape_px, bool)
        inside[RIM_PX:-RIM_PX, RIM_PX:-RIM_PX] = True
        variance = np.where(inside, variance, np.float32(np.nan))
    return FrameSample(frame, exposure.photons(movie.read(frame, frame + 1)[0, 0]), expected, variance, size, movie.origin_px)


@torch.no_grad()
def _expected(here: Localizations, movie: Movie, exposure: Exposure, level: np.ndarray) -> np.ndarray:
    """Form the noise-free frame (rows, columns) of its localizations with the PSF of the experiment, at the width that was measured."""
    size = here.provenance.pixel_size_nm
    assert size is not None
    experiment = exposure.experiment
    psf = experiment.psf.build(experiment.pixel_size_nm)
    microscope = Microscope(psf, experiment.build_camera(), Grid(movie.shape_px, size))
    top, left = movie.origin_px
    x, y, z = (np.asarray(here.columns.get(name, np.zeros(len(here))), np.float64) for name in ("x_nm", "y_nm", "z_nm"))
    emitters = Emitters.of(
        frame=torch.zeros(len(here), dtype=torch.long),
        x_nm=torch.from_numpy(x - left * size[1]).float(),
        y_nm=torch.from_numpy(y - top * size[0]).float(),
        photons=torch.from_numpy(here.photons.astype(np.float32)),
        z_nm=torch.from_numpy(z).float(),
        channel=torch.from_numpy(here.channel) if "channel" in here else None,
    )
    ratio = exposure.conditions.width_px / experiment.width_px() if serves_many(experiment) else 1.0
    scale = None if ratio == 1.0 else torch.full((len(here),), ratio)
    corner = torch.tensor([[left * size[1], top * size[0]]]).float().expand(len(here), -1)
    return microscope.expected(emitters, torch.from_numpy(level)[None, None], scale, corner)[0, 0].numpy()


def _background(movie: Movie, exposure: Exposure) -> np.ndarray:
    """Give the background of the region (rows, columns) in photons, measured as the localizer was told it."""
    if not exposure.uneven_background:
        return np.full(movie.shape_px, exposure.conditions.background, np.float32)
    return uneven_background(movie, exposure.photons, exposure.conditions.excess, exposure.conditions.noise_variance)


def _brightness(here: Localizations, movie: Movie, level: np.ndarray) -> float:
    """Give this frame's background over the told one, from what the localizations say of it; 1 where they are few."""
    if "background" not in here or len(here) < LEAST_LOCALIZATIONS:
        return 1.0
    size = here.provenance.pixel_size_nm
    assert size is not None
    row = np.clip((here.y_nm / size[0]).astype(int) - movie.origin_px[0], 0, level.shape[0] - 1)
    column = np.clip((here.x_nm / size[1]).astype(int) - movie.origin_px[1], 0, level.shape[1] - 1)
    return float(np.median(here.background / level[row, column]))
