"""Scenes: a few windows of consecutive frames, of the movie or drawn from a document, in photons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..camera import Camera
from ..data import Movie
from ..errors import MovieError
from ..experiment import Experiment
from ..localize import InputConditions, Localizer
from ..units import PixelSize

Region = tuple[int, int]
"""(top, left) of the windows of one place, in pixels of the region in use."""
LEAST_FRAMES = 6
FULL = 0.5  # share of full pixels from which on nothing can be judged
GLANCE = 12  # frames that say where most happens


@dataclass(frozen=True)
class Size:
    """How much is looked at.

    Args:
        windows: of consecutive frames, spread over the movie.
        inner: frames of a window that count; their neighbours are read besides.
        side_px: largest side of a window.
        regions: places of a large field that are looked at.
        references: scenes that are drawn from the document to compare with.
    """

    windows: int = 12
    inner: int = 4
    side_px: int = 112
    regions: int = 3
    references: int = 3


FULL_SIZE = Size()
QUICK_SIZE = Size(windows=3, inner=4, side_px=64, regions=1, references=1)


@dataclass(frozen=True, eq=False)
class Setup:
    """What is the same for the movie and for the scenes it is compared with.

    Args:
        localizer: of the model.
        experiment: its document.
        camera: of the movie's region.
        conditions: what the localizer is told.
        pixel_size_nm: (y, x).
        background: (y, x) uneven background of the region that the localizer is told, or None.
        scale: width of the PSF over that of the document, for a model that serves many widths.
    """

    localizer: Localizer
    experiment: Experiment
    camera: Camera
    conditions: InputConditions
    pixel_size_nm: PixelSize
    background: np.ndarray | None = None
    scale: float = 1.0

    @property
    def side_nm(self) -> float:
        """Mean side of a pixel."""
        return float(np.sqrt(self.pixel_size_nm[0] * self.pixel_size_nm[1]))

    def camera_of(self, region: Region, shape_px: tuple[int, int]) -> Camera:
        """Give the camera of a region."""
        return self.camera.crop(*region, *shape_px)

    def field_of(self, region: Region, shape_px: tuple[int, int]) -> np.ndarray | None:
        """Give the uneven background of a region."""
        if self.background is None:
            return None
        return self.background[region[0] : region[0] + shape_px[0], region[1] : region[1] + shape_px[1]]


@dataclass(frozen=True, eq=False)
class Scene:
    """Windows of frames.

    Args:
        photons: (windows, frames, planes, y, x) float32; the first and last ``context`` frames of each window are neighbours only.
        place: (windows,) index of the region that each shows.
        regions: their corners.
        context: neighbours on each side.
        full_share: share of pixels that are full.
        origin_px: (row, column) of the region in use in the whole field.
    """

    photons: np.ndarray
    place: np.ndarray
    regions: tuple[Region, ...]
    context: int
    full_share: float = 0.0
    origin_px: tuple[int, int] = (0, 0)

    def corner_px(self, place: int) -> tuple[int, int]:
        """Give the (row, column) of a place's first pixel in the whole field, by which PSFs that vary there are drawn."""
        return self.origin_px[0] + self.regions[place][0], self.origin_px[1] + self.regions[place][1]

    @property
    def shape_px(self) -> tuple[int, int]:
        """(rows, columns) of a window."""
        return self.photons.shape[-2], self.photons.shape[-1]

    @property
    def inner(self) -> np.ndarray:
        """(windows, inner frames, planes, y, x) the frames that count."""
        return self.photons[:, self.context : self.photons.shape[1] - self.context]


def movie_scene(movie: Movie, setup: Setup, size: Size, saturation_counts: float = np.inf) -> Scene:
    """Read windows spread over a movie, of the regions where most happens.

    Raises:
        MovieError: too few frames, all pixels alike, or most of them full.
    """
    context = setup.localizer.context
    frames = min(size.inner, movie.n_frames - 2 * context) + 2 * context
    if movie.n_frames < max(LEAST_FRAMES, 2 * context + 1):
        raise MovieError(
            f"{movie.name} has {movie.n_frames} frames; expected at least {max(LEAST_FRAMES, 2 * context + 1)} to compare a model with: give a "
            "longer movie"
        )
    regions, shape = _busiest(movie, size)
    first, last = movie.frames
    n = max(1, min(size.windows, movie.n_frames // frames))
    starts = np.linspace(first, last - frames, n).round().astype(int)
    place = np.arange(n) % len(regions)
    windows, full = [], 0
    top, left = movie.origin_px
    for start, p in zip(starts, place, strict=True):
        y, x = regions[p]
        counts = movie.crop(roi_px=(top + y, left + x, *shape)).read(int(start), int(start) + frames).astype(np.float32)
        full += int((counts >= saturation_counts).sum())
        windows.append(setup.camera_of((y, x), shape).to_photons(torch.from_numpy(counts)).numpy())
    photons = np.stack(windows).astype(np.float32)
    if full > FULL * photons.size:
        raise MovieError(
            f"{movie.name}: {100 * full / photons.size:.0f} % of the pixels are full ({saturation_counts:g} counts); record it with less light or "
            "gain"
        )
    return Scene(photons, place, regions, context, full / photons.size, movie.origin_px)


def _busiest(movie: Movie, size: Size) -> tuple[tuple[Region, ...], tuple[int, int]]:
    """Choose the regions where the light changes most from frame to frame, apart from each other.

    Raises:
        MovieError: all pixels are alike or not finite.
    """
    few = movie.sample(GLANCE)[:, 0].astype(np.float32)
    if not np.isfinite(few).all():
        raise MovieError(f"{movie.name} holds values that are not finite; expected counts: export it again without them")
    if float(np.ptp(few)) == 0:
        raise MovieError(
            f"{movie.name}: all pixels hold {few.flat[0]:g} counts; expected light: look whether the right movie was exported"
        )
    rows, columns = movie.shape_px
    shape = min(rows, size.side_px), min(columns, size.side_px)
    tops, lefts = (
        sorted({*range(0, side - part + 1, max(1, part // 2)), side - part})
        for side, part in zip((rows, columns), shape, strict=True)
    )
    moving = np.pad(few.var(0, dtype=np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    light = {
        (y, x): moving[y + shape[0], x + shape[1]] - moving[y, x + shape[1]] - moving[y + shape[0], x] + moving[y, x]
        for y in tops
        for x in lefts
    }
    chosen: list[Region] = []
    for corner in sorted(light, key=lambda corner: -light[corner]):
        if all(abs(corner[0] - y) >= shape[0] or abs(corner[1] - x) >= shape[1] for y, x in chosen):
            chosen.append(corner)
        if len(chosen) == size.regions:
            break
    return tuple(chosen), shape


def with_photons(scene: Scene, photons: np.ndarray) -> Scene:
    """Put other frames in place of those of a scene."""
    return replace(scene, photons=photons, full_share=0.0)
