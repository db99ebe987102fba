"""A first look: a few frames localized by the model itself say how many molecules there are and how bright they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .calibrate.conditions import Estimate
from .camera import Camera
from .data import Frames, Localizations, Movie
from .errors import MovieError
from .localize import InputConditions, Localizer
from .units import PixelSize

FRAMES = 20
SIDE_PX = 100  # of a larger field each frame shows a window of this width, another one each time: a second of work in all
RIM_PX = 4  # what lies nearer to the edge of a window is not counted: light of molecules outside shines in there
MODEL_ERROR = 0.1  # relative error that is granted to a model inside of its range
PARTS = 20  # of the frames, whose means are compared: frames near each other show the same molecules
LIKELY = 0.5  # least probability of those whose photons are averaged where all are counted
STEPS = (0.7548776662, 0.5698402910)  # parts of the free way by which windows go on, which never meet again


@dataclass(frozen=True)
class Survey:
    """What a model finds in a few frames.

    Args:
        density_per_um2: emitters per um^2 and frame.
        photons: mean photons of an emitter in a frame, None where none was found.
    """

    density_per_um2: Estimate
    photons: Estimate | None


@dataclass(frozen=True)
class _Glance:
    """Frames to be localized at once, and which of them count.

    Args:
        stack: (n, planes, y, x) counts, frames that count each between their neighbours.
        wanted: indices of the frames that count.
        window: (top, left, height, width) in pixels of the region.
    """

    stack: np.ndarray
    wanted: np.ndarray
    window: tuple[int, int, int, int]


def survey(
    movie: Movie,
    localizer: Localizer,
    camera: Camera,
    conditions: InputConditions,
    background: np.ndarray | None,
    pixel_size_nm: PixelSize,
    *,
    frames: int = FRAMES,
    least: float | None = None,
) -> Survey | None:
    """Localize some frames spread over a movie, each with its neighbours, and count.

    A count of localizations falls behind where molecules are dim or crowded: what is doubtful is left out. With ``least`` the
    probabilities are summed instead: two that are half believed count as one.

    Args:
        movie: counts.
        localizer: of the model; it is left as it was.
        camera: turns counts of the movie's region into photons.
        conditions: what the localizer is told.
        background: (y, x) uneven background of the region in photons, or None.
        pixel_size_nm: (y, x).
        frames: how many frames are looked at, at most.
        least: sum the probabilities of all that have at least this one; None counts what the localizer would give.

    Returns:
        What was found; None where no frame could be read.
    """
    before = localizer.conditions, localizer.threshold
    localizer.conditions, localizer.threshold = conditions, least
    counts, photons, seen_um2 = [], [], 0.0
    try:
        for glance in _glances(movie, localizer.context, frames):
            table, area_um2 = _look(glance, movie, localizer, camera, background, pixel_size_nm)
            weights, likely = _weights(table, least)
            counts.append(np.bincount(table.frame, weights, len(glance.stack))[glance.wanted])
            photons.append(table.photons[likely] if "photons" in table else np.empty(0))
            seen_um2 = area_um2
    finally:
        localizer.conditions, localizer.threshold = before
    if not counts:
        return None
    per_frame = np.concatenate(counts)
    how = f"by localizing {len(per_frame)} frame{'' if len(per_frame) == 1 else 's'}"
    spread = np.sqrt(max(per_frame.sum(), 1.0)) / len(per_frame)  # of counting
    parts = np.array([part.mean() for part in np.array_split(per_frame, min(len(per_frame), PARTS))])
    density = _mean(parts / seen_um2, spread / seen_um2, "emitters per um^2 and frame", how, float(per_frame.mean()) / seen_um2)
    light = np.concatenate(photons).astype(np.float64)
    light = light[np.isfinite(light)]
    return Survey(density, _mean(light, 0.0, "photons", how) if len(light) else None)


def _weights(table: Localizations, least: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Say for how much each row counts, and which rows more likely are molecules than not."""
    if least is None or "probability" not in table:
        return np.ones(len(table)), np.ones(len(table), bool)
    return table.probability.astype(np.float64), table.probability >= LIKELY


def _glances(movie: Movie, context: int, frames: int) -> list[_Glance]:
    """Choose frames spread over the movie: all in one stack where the field is small, each with a window of its own elsewhere."""
    first, last = movie.frames
    most = movie.n_frames - 2 * context
    picks = (
        np.unique(np.linspace(first + context, last - 1 - context, min(frames, most)).astype(int))
        if most > 0
        else np.array([first])
    )
    (rows, columns), top, left = movie.shape_px, *movie.origin_px
    height, width = min(rows, SIDE_PX), min(columns, SIDE_PX)
    whole = (height, width) == (rows, columns)
    glances = []
    for i, run in enumerate(_runs(picks, 2 * context if whole else 0)):
        y, x = (round(free * (step * i % 1.0)) for free, step in zip((rows - height, columns - width), STEPS, strict=True))
        start = max(first, int(run[0]) - context)
        try:
            stack = movie.crop(roi_px=(top + y, left + x, height, width)).read(start, min(last, int(run[-1]) + context + 1))
        except MovieError:  # a frame that cannot be read is for the run to complain of
            continue
        glances.append(_Glance(stack, run - start, (y, x, height, width)))
    if len(glances) < 2 or not whole:
        return glances
    ends = np.cumsum([0, *(len(glance.stack) for glance in glances)])
    wanted = np.concatenate([glance.wanted + end for glance, end in zip(glances, ends, strict=False)])
    return [_Glance(np.concatenate([glance.stack for glance in glances]), wanted, (0, 0, rows, columns))]


def _runs(picks: np.ndarray, near: int) -> list[np.ndarray]:
    """Part frames where the next one lies farther than ``near``: those nearer share neighbours and are read at once."""
    return np.split(picks, np.flatnonzero(np.diff(picks) > near) + 1)


@torch.inference_mode()
def _look(
    glance: _Glance,
    movie: Movie,
    localizer: Localizer,
    camera: Camera,
    background: np.ndarray | None,
    pixel_size_nm: PixelSize,
) -> tuple[Localizations, float]:
    """Localize a stack; give what lies in the frames and the area that count, and that area in um^2."""
    top, left, height, width = glance.window
    device = next((weight.device for weight in localizer.parameters()), torch.device("cpu"))
    photons = camera.crop(top, left, height, width).to_photons(torch.from_numpy(glance.stack.astype(np.float32)))
    field = None if background is None else torch.from_numpy(background[top : top + height, left : left + width]).to(device)
    table = localizer(Frames(photons.to(device), pixel_size_nm, background=field))
    y_nm, x_nm = pixel_size_nm
    rims = [RIM_PX if side < whole else 0 for side, whole in zip((height, width), movie.shape_px, strict=True)]
    keep = np.isin(table.frame, glance.wanted)
    for position, rim, side, pixel_nm in ((table.y_nm, rims[0], height, y_nm), (table.x_nm, rims[1], width, x_nm)):
        keep &= rim == 0 or (position >= rim * pixel_nm) & (position < (side - rim) * pixel_nm)
    return table.select(keep), (height - 2 * rims[0]) * y_nm * (width - 2 * rims[1]) * x_nm * 1e-6


def _mean(values: np.ndarray, least: float, unit: str, how: str, mean: float | None = None) -> Estimate:
    """Give the mean with two standard errors (``least`` where that is more) and the error that a model may have."""
    mean = float(values.mean()) if mean is None else mean
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    half = 2 * max(error, float(least)) + MODEL_ERROR * mean
    return Estimate(mean, max(0.0, mean - half), mean + half, unit, "measured", how)
