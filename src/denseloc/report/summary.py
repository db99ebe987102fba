"""Numbers that sum up a table: quantiles, counts over time, density, positions inside of the pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import f as f_distribution

from ..data import COLUMNS, Localizations, Movie
from ..units import PixelSize
from .samples import FrameSample

MAX_ROWS = 500_000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SUBPIXEL_BINS = 20
PLACE_PX = 4
"""Width, in camera pixels, of the squares whose positions may belong together."""
LEAST_PLACES = 20
DENSITY_RADIUS_NM = 1000.0
DENSITY_ROWS = 50_000


def thin(table: Localizations, limit: int = MAX_ROWS, generator: torch.Generator | None = None) -> Localizations:
    """Take about ``limit`` random rows of a larger table, in their order; without a generator the same rows every time."""
    if len(table) <= limit:
        return table
    generator = generator or torch.Generator().manual_seed(0)
    rows = torch.randint(len(table), (limit,), generator=generator).numpy()
    return table.select(np.unique(rows))


def finite(table: Localizations, name: str) -> np.ndarray:
    """Give the finite values of a column, or none if the table does not have it."""
    if name not in table:
        return np.empty(0)
    values = np.asarray(table.columns[name], dtype=np.float64)
    return values[np.isfinite(values)]


def lateral_sigma_nm(table: Localizations) -> np.ndarray:
    """Give the finite root mean squares of sigma_x_nm and sigma_y_nm, or none if the table has no sigma."""
    if "sigma_x_nm" not in table or "sigma_y_nm" not in table:
        return finite(table, "sigma_x_nm")
    sigma = np.sqrt(0.5 * (table.sigma_x_nm.astype(np.float64) ** 2 + table.sigma_y_nm.astype(np.float64) ** 2))
    return sigma[np.isfinite(sigma)]


def frame_range(table: Localizations, movie: Movie | None) -> tuple[int, int]:
    """Give (start, stop) of the frames that were localized: the movie's, else the provenance's, else those in the table."""
    if movie is not None:
        return movie.frames
    if table.provenance.n_frames:
        return 0, max(table.provenance.n_frames, int(table.frame.max()) + 1 if len(table) else 0)
    return (int(table.frame.min()), int(table.frame.max()) + 1) if len(table) else (0, 0)


def counts_per_frame(table: Localizations, frames: tuple[int, int]) -> np.ndarray:
    """Count the localizations in each frame start .. stop-1."""
    start, stop = frames
    inside = table.frame[(table.frame >= start) & (table.frame < stop)]
    return np.bincount(inside - start, minlength=max(stop - start, 0))


def pixel_size(table: Localizations, movie: Movie | None = None, samples: Sequence[FrameSample] = ()) -> PixelSize | None:
    """Find the camera's pixel size (y, x) in nm, None if nothing tells it."""
    if table.provenance.pixel_size_nm is not None:
        return table.provenance.pixel_size_nm
    if movie is not None and movie.pixel_size_nm is not None:
        return movie.pixel_size_nm
    return samples[0].pixel_size_nm if samples else None


def local_density_per_um2(table: Localizations) -> float | None:
    """Measure the density that a typical localization sees: neighbours in its frame within 1 um, per um^2.

    Empty parts of the field do not count, unlike in the number of localizations over the area. None for an empty table.
    """
    keep = np.isfinite(table.x_nm) & np.isfinite(table.y_nm)
    if not keep.any():
        return None
    frame, x, y = table.frame[keep], table.x_nm[keep], table.y_nm[keep]
    frames = np.unique(frame)
    n_used = max(1, int(len(frames) * min(1.0, DENSITY_ROWS / len(frame))))
    used = np.isin(frame, frames[np.linspace(0, len(frames) - 1, n_used).astype(int)])
    points = np.stack([x[used], y[used], frame[used] * (10 * DENSITY_RADIUS_NM)], axis=1)
    neighbours = cKDTree(points).query_ball_point(points, DENSITY_RADIUS_NM, return_length=True) - 1
    return float(neighbours.mean() / (np.pi * (DENSITY_RADIUS_NM * 1e-3) ** 2))


@dataclass(frozen=True, eq=False)
class Flatness:
    """Histogram of positions inside of the pixel along one axis.

    Args:
        axis: "x" or "y".
        counts: (SUBPIXEL_BINS,) from one pixel edge to the other.
        p_value: chance of positions as uneven as these, were the truth flat.
        contrast: relative standard deviation of the bins beyond that of counting noise.
    """

    axis: str
    counts: np.ndarray
    p_value: float
    contrast: float


def subpixel(position_nm: np.ndarray, pixel_nm: float, axis: str, place: np.ndarray | None = None) -> Flatness:
    """Test whether positions inside of the pixel are spread evenly.

    Without places, each position counts as independent of all others (chi2). A molecule that is seen again and again, or a straight
    piece of structure, gives many positions of one phase, though; with places only these count as independent of each other.

    Args:
        position_nm: (n,) along one axis.
        pixel_nm: of the camera.
        axis: its name.
        place: (n,) whole numbers, equal for positions that may belong together, as `places` gives them.
    """
    good = np.isfinite(position_nm)
    position_nm = position_nm[good]
    phase = np.mod(position_nm / pixel_nm, 1.0)
    counts = np.bincount(np.minimum((phase * SUBPIXEL_BINS).astype(int), SUBPIXEL_BINS - 1), minlength=SUBPIXEL_BINS)
    n = int(counts.sum())
    if n == 0:
        return Flatness(axis, counts, 1.0, 0.0)
    mean = n / SUBPIXEL_BINS
    statistic = float(((counts - mean) ** 2).sum() / mean)
    freedom = SUBPIXEL_BINS - 1
    contrast = np.sqrt(max(statistic - freedom, 0.0) / n)
    chance = float(chi2_distribution.sf(statistic, freedom)) if place is None else _chance_of_waves(phase, place[good])
    return Flatness(axis, counts, chance, float(contrast))


def places(table: Localizations, pixel_size_nm: PixelSize) -> np.ndarray:
    """Number the squares of `PLACE_PX` camera pixels that the rows lie in, (n,); rows without a position get -1."""
    finite_rows = np.isfinite(table.x_nm) & np.isfinite(table.y_nm)
    row, column = (
        np.where(finite_rows, np.floor(np.nan_to_num(v) / (PLACE_PX * p)), 0).astype(np.int64)
        for v, p in zip((table.y_nm, table.x_nm), pixel_size_nm, strict=True)
    )
    _, index = np.unique(np.stack([row, column], axis=1), axis=0, return_inverse=True)
    return np.where(finite_rows, index.reshape(-1), -1)


def _chance_of_waves(phase: np.ndarray, place: np.ndarray) -> float:
    """Give the chance of the first two waves over the pixel that the phases show, from how they differ between places.

    The sums over places of cos and sin of ``2 pi k phase``, k = 1, 2, follow Hotelling's law where the phases of each place may be as
    uneven as they like, but not all in one way. 1 where there are too few places to tell.

    Source: K.-Y. Liang and S. L. Zeger, Biometrika 73, 13, 1986 (variance from independent groups); H. Hotelling, Ann. Math. Stat. 2,
    360, 1931.
    """
    angles = 2 * np.pi * np.outer((1, 2), phase)
    waves = np.concatenate([np.cos(angles), np.sin(angles)])
    _, index = np.unique(place, return_inverse=True)
    sums = np.stack([np.bincount(index, wave) for wave in waves])  # (4, places)
    n, freedom = sums.shape[1], len(sums)
    if n < LEAST_PLACES:
        return 1.0
    total, product = sums.sum(1), sums @ sums.T
    statistic = float(total @ np.linalg.lstsq(product, total, rcond=None)[0])  # of sums about zero, at most n
    if statistic >= n:
        return 0.0
    return float(f_distribution.sf((n - freedom) / freedom * statistic / (n - statistic), freedom, n - freedom))


@dataclass(frozen=True)
class ColumnSummary:
    """One line of the table of columns; quantiles are texts, missing counts the values that are not finite."""

    name: str
    unit: str
    quantiles: tuple[str, ...]
    missing: int
    meaning: str


def summarize_columns(table: Localizations) -> list[ColumnSummary]:
    """Sum up each column that the table has by its quantiles, with unit and meaning."""
    rows = []
    for name, values in table.columns.items():
        good = finite(table, name)
        texts = tuple(number(q) for q in np.quantile(good, QUANTILES)) if len(good) else ("–",) * len(QUANTILES)
        rows.append(ColumnSummary(name, COLUMNS[name].unit, texts, len(values) - len(good), COLUMNS[name].meaning))
    return rows


def number(value: float) -> str:
    """Write a number for people: four digits at most after the first, thousands set apart by thin spaces."""
    if not np.isfinite(value):
        return "–"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 1000 or float(value).is_integer() else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}".replace(",", "\u2009").replace("-", "\u2212")
