"""Windows of a movie that a model is adapted to: which frames are learned from, which choose the best state, and which judge it.

Blocks of frames follow one another; every sixth is held out, in short movies up to every third, so that few differences do not decide.
Of these one chooses and the next judges, in turn: what was chosen for being best looks better than it is where it was chosen. Held-out
windows do not overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..blocks import frames_of
from ..data import Block, Movie
from ..errors import MovieError
from ..localize import Localizer
from ..preparation import Preparation
from ..train.wake import MovieWindows

LEAST_MOLECULES = 100
SIDE_PX, LEAST_SIDE_PX = 32, 16
INNER = 3  # frames of a window that are looked at
MOST_BLOCKS, MOST_WINDOWS, MOST_HELD_OUT = 400, 2500, 90
HOLD_OUT = (6, 5, 4, 3)  # every so many blocks one is held out: the first number that leaves enough
ENOUGH_HELD_OUT = 30  # separate windows in each half of what is held out, where a third of the movie gives so many
LEAST_HELD_OUT = 8  # a standard error of fewer values is itself wrong by more than a quarter
LEAST_BLOCKS = 2  # of each half: one flash or jump in one block must not decide
MOST_FULL = 1e-3  # share of full pixels


@dataclass(frozen=True)
class Shares:
    """How the frames of a movie are shared out.

    Args:
        frames, side_px: of a window.
        learn, choose, judge: first frames of the blocks that are learned from, that choose the best state, and that judge it.
    """

    frames: int
    side_px: int
    learn: tuple[int, ...]
    choose: tuple[int, ...]
    judge: tuple[int, ...]


@dataclass(frozen=True)
class Gathered:
    """Windows cut from the movie, by what they are for."""

    learn: MovieWindows
    choose: MovieWindows
    judge: MovieWindows


def check_movie(movie: Movie) -> None:
    """Refuse, before anything is measured, movies whose frames are too small, all alike or saturated.

    Raises:
        MovieError: they are.
    """
    if min(movie.shape_px) < LEAST_SIDE_PX:
        rows, columns = movie.shape_px
        raise MovieError(
            f"frames of {rows} x {columns} px; expected at least {LEAST_SIDE_PX} x {LEAST_SIDE_PX} to adapt a model to"
        )
    counts = movie.sample(20)
    if np.issubdtype(counts.dtype, np.integer):
        _refuse_full(movie, counts, float(np.iinfo(counts.dtype).max))
    if counts.min() == counts.max():
        raise MovieError(
            f"{movie.name}: all pixels hold {float(counts.flat[0]):g} counts; expected light: look whether the right movie was exported"
        )


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
            f"{100 * full:.1f} % of the pixels of {movie.name} are full (at {limit:.0f} counts); a model cannot learn from light that was cut off: "
            "record with less light or gain, or choose a region without such pixels (--roi)"
        )


def share_out(movie: Movie, localizer: Localizer) -> Shares:
    """Say which frames are for what.

    Raises:
        MovieError: too few could be held out to judge by.
    """
    t = INNER + 2 * localizer.context
    side = min(SIDE_PX, *(length // localizer.align_px * localizer.align_px for length in movie.shape_px))
    places = math.prod(length // side for length in movie.shape_px)
    wanted, enough = (max(LEAST_BLOCKS, math.ceil(number / places)) for number in (LEAST_HELD_OUT, ENOUGH_HELD_OUT))
    first, last = movie.frames
    starts = np.arange(first, last - t + 1, t)
    starts = _spread(starts, MOST_BLOCKS)
    for every in HOLD_OUT:
        is_held = np.arange(len(starts)) % every == every - 1
        held = starts[is_held].tolist()
        if len(held) // 2 >= (wanted if every == HOLD_OUT[-1] else enough):
            return Shares(t, side, tuple(starts[~is_held].tolist()), tuple(held[1::2]), tuple(held[::2]))
    rows, columns = movie.shape_px
    blocks = len(starts) // HOLD_OUT[-1] // 2
    found = f"{blocks * places} separate windows in {blocks} blocks" if places > 1 else f"{blocks} separate windows"
    larger = ", or a larger region (--roi)" if movie.shape_px != movie.field_px else ""
    raise MovieError(
        f"{movie.name}: {movie.n_frames} frames of {rows} x {columns} px leave {found} to judge an adapted model by, expected {LEAST_HELD_OUT} or "
        f"more in {LEAST_BLOCKS} or more blocks of {t} frames; take {t * 2 * wanted * HOLD_OUT[-1]} frames or more{larger}"
    )


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """Take at most so many, evenly."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).astype(int))]


def gather(movie: Movie, ready: Preparation, localizer: Localizer, shares: Shares, seed: int) -> Gathered:
    """Cut the windows: those to learn from anywhere, held-out ones beside each other."""
    rng = np.random.default_rng(seed)
    places = math.prod(length // shares.side_px for length in movie.shape_px)

    def cut(starts: tuple[int, ...], most: int, apart: bool) -> MovieWindows:
        each = min(places, max(1, math.ceil(most / len(starts))))
        windows = []
        for start in _spread(np.array(starts), max(1, most // each)).tolist():
            block = Block(movie.read(start, start + shares.frames), start, start, start + shares.frames)
            photons = frames_of(block, movie, ready, torch.device("cpu")).photons
            corners = corners_of(movie.shape_px, shares.side_px, each, rng, apart=apart)
            windows += [_cut(photons, corner, shares.side_px, ready, localizer, movie.origin_px) for corner in corners]
        return _joined(windows)

    return Gathered(
        cut(shares.learn, MOST_WINDOWS, False), cut(shares.choose, MOST_HELD_OUT, True), cut(shares.judge, MOST_HELD_OUT, True)
    )


def corners_of(shape_px: tuple[int, int], side: int, n: int, rng: np.random.Generator, *, apart: bool) -> list[tuple[int, int]]:
    """Draw the corners (row, column) of n windows of a frame: anywhere, or of a raster, so that none overlap."""
    if not apart:
        return [(int(rng.integers(0, shape_px[0] - side + 1)), int(rng.integers(0, shape_px[1] - side + 1))) for _ in range(n)]
    top, left = (int(rng.integers(0, length % side + 1)) for length in shape_px)
    raster = [(y, x) for y in range(top, shape_px[0] - side + 1, side) for x in range(left, shape_px[1] - side + 1, side)]
    return [raster[i] for i in rng.permutation(len(raster))[:n].tolist()]


def _cut(
    photons: Tensor, corner: tuple[int, int], side: int, ready: Preparation, localizer: Localizer, origin_px: tuple[int, int]
) -> MovieWindows:
    """Cut one window; ``origin_px`` (row, column) of the frames' first pixel in the field."""
    y, x = corner
    told = ready.conditions
    if ready.background is None:
        level = torch.full((side, side), told.background)
    else:
        level = torch.from_numpy(ready.background[y : y + side, x : x + side].copy())
    row = replace(told, background=float(level.mean())).tensor(1) if is_told(localizer) else localizer.scales.reference.tensor(1)
    (y_nm, x_nm), (y0, x0) = ready.pixel_size_nm, origin_px
    return MovieWindows(
        photons[None, :, :, y : y + side, x : x + side].clone(),
        level[None, None],
        row,
        torch.tensor([[(x0 + x) * x_nm, (y0 + y) * y_nm]]),
    )


def is_told(localizer: Localizer) -> bool:
    """Whether a localizer is told the conditions of each movie."""
    return bool(getattr(getattr(localizer, "settings", None), "is_told", False))


def _joined(parts: list[MovieWindows]) -> MovieWindows:
    return MovieWindows(*(torch.cat(tensors) for tensors in zip(*(vars(part).values() for part in parts), strict=True)))
