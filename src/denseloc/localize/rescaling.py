"""Offset rescaling: positions that lean to the middle of their pixel are spread over it again.

A network that is not sure where in its pixel an emitter lies answers with a mean, which is nearer to the pixel's centre than the truth: pictures show
the pixel grid. Where the truth is spread evenly over the pixels, the distribution of the answers says how far they must be moved: localizations are
parted into bins of equal numbers by depth, and in each bin the offset from the pixel's centre becomes ``F(offset) - 0.5`` with F its empirical
cumulative distribution, for x and y apart.

Source: Speiser, Turaga, Macke, "Teaching deep neural networks to localize sources in super-resolution microscopy by combining simulation-based
learning and unsupervised learning" (2019), section 1.5.

Ours: a table without depth is parted by the stated sigma of the axis, which is what the artefact follows. F is put up from the sub-pixel positions of
the table, whichever pixel has detected them. A sample whose molecules lie unevenly in the pixels (few molecules, one straight line) must not be
spread, so that a bin stays as it is unless two things hold. F of one half of the field (a checkerboard) makes the other half more even, and the
reverse. And the root mean square of the shifts is at most that of the stated sigmas: a mean with the error ``s`` leans by less than ``s``. What it
costs: the error ``s`` grows by a factor of about ``1 + 1.5 (s / pixel)^2``, since the answers were the means that make it least. Sigmas stay as they
are stated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data import Localizations, Provenance
from ..errors import TableError
from ..evaluate.subpixel import known_pixel_size, subpixel_offsets
from ..units import PixelSize

MOST_BINS = 20
LEAST_ROWS = 2000
"""Rows of a bin: the cumulative distribution is known to 0.01 px then. A table with fewer stays as it is."""
MOST_ROWS = 1 << 20
"""Rows that the distributions are put up from; every second, fourth, ... row of a longer table."""
KNOTS = np.linspace(-0.5, 0.5, 101)
BLOCK_PX = 4
"""Side of a square of the checkerboard."""


@dataclass(frozen=True, eq=False)
class AxisRescaling:
    """The rescaling of one axis.

    Args:
        edges: (bins - 1,) limits between the bins.
        curves: (bins, knots) offset in px that becomes of the offsets `KNOTS`; the knots themselves where a bin stays as it is.
        shift_px: root mean square of the shifts.
    """

    edges: np.ndarray
    curves: np.ndarray
    shift_px: float

    @property
    def rescaled(self) -> int:
        """Number of bins that are not left as they are."""
        return int((self.curves != KNOTS).any(1).sum())

    def apply(self, position_nm: np.ndarray, by: np.ndarray, pixel_nm: float) -> np.ndarray:
        """Move positions (n,) nm by their bins; those that are no finite number stay."""
        moved = np.array(position_nm, np.float64)
        offset = subpixel_offsets(moved, pixel_nm)
        usable = np.isfinite(offset) & np.isfinite(by)
        bins = np.searchsorted(self.edges, by, side="right")
        for index, curve in enumerate(self.curves):
            here = np.flatnonzero(usable & (bins == index))
            moved[here] += (np.interp(offset[here], KNOTS, curve) - offset[here]) * pixel_nm
        return moved


@dataclass(frozen=True, eq=False)
class OffsetRescaling:
    """How the sub-pixel positions of one movie are rescaled.

    Args:
        pixel_size_nm: (y, x).
        axes: by "x" and "y"; empty where the table has too few rows.
        rows: of the table.
        by_depth: whether the bins are those of depth.
    """

    pixel_size_nm: PixelSize
    axes: dict[str, AxisRescaling]
    rows: int
    by_depth: bool

    @classmethod
    def of(cls, parts: Iterable[Localizations], pixel_size_nm: PixelSize) -> OffsetRescaling:
        """Put up the distributions of a table that comes in parts; memory does not grow with it."""
        sample, rows = _sample(parts)
        if not len(sample):
            return cls(pixel_size_nm, {}, rows, False)
        half = _half_of(sample, pixel_size_nm)
        axes = {
            axis: _axis(
                subpixel_offsets(sample.columns[f"{axis}_nm"], size), _by(sample, axis), half, _sigma_px(sample, axis, size)
            )
            for axis, size in zip("yx", pixel_size_nm, strict=True)
        }
        return cls(pixel_size_nm, {axis: found for axis, found in axes.items() if found is not None}, rows, sample.is_3d)

    def __bool__(self) -> bool:
        return any(found.rescaled for found in self.axes.values())

    def __str__(self) -> str:
        if not self.axes:
            return f"not rescaled ({self.rows} rows, fewer than the {LEAST_ROWS} that it takes)"
        if not self:
            return "not rescaled (they lie evenly in the pixels, or as unevenly as the sample itself)"
        bins = "bins of depth" if self.by_depth else "bins of sigma"
        y_nm, x_nm = self.pixel_size_nm
        words = [
            f"{axis} in {found.rescaled} of {len(found.curves)} {bins}, by {found.shift_px * size:.1f} nm (root mean square)"
            for axis, found, size in ((a, self.axes[a], s) for a, s in (("x", x_nm), ("y", y_nm)) if a in self.axes)
        ]
        return "rescaled: " + "; ".join(words)

    def apply(self, table: Localizations) -> Localizations:
        """Move the positions of a table or of a part of it; the provenance stays as it was."""
        if not self or not len(table):
            return table
        sizes = dict(zip("yx", self.pixel_size_nm, strict=True))
        moved = {
            f"{axis}_nm": found.apply(table.columns[f"{axis}_nm"], _by(table, axis), sizes[axis])
            for axis, found in self.axes.items()
            if found.rescaled
        }
        return table.with_columns(**moved)

    def noted(self, provenance: Provenance) -> Provenance:
        """Write into a provenance what was done, or why nothing was."""
        axes = {
            axis: {"rescaled_bins": found.rescaled, "bins": len(found.curves), "shift_px": round(found.shift_px, 5)}
            for axis, found in self.axes.items()
        }
        done: dict[str, Any] = {"rescaled": bool(self), "by": "z_nm" if self.by_depth else "sigma", **axes}
        assumed = [*provenance.settings.get("assumed", ()), f"sub-pixel positions: {self}"]
        return replace(provenance, settings={**provenance.settings, "offset_rescaling": done, "assumed": assumed})


def rescale_offsets(table: Localizations, pixel_size_nm: PixelSize | None = None) -> Localizations:
    """Spread sub-pixel positions that lean to the pixels' centres over the pixels again; the table says so in its provenance.

    Args:
        table: of one movie, as localized: before drift is corrected, and not refined.
        pixel_size_nm: (y, x); None takes what the table says.

    Raises:
        TableError: the pixel size is not known, or the table was rescaled before.
    """
    parts, provenance = rescaled(
        lambda: iter([table]), replace(table.provenance, pixel_size_nm=known_pixel_size(table, pixel_size_nm))
    )
    return replace(next(parts), provenance=provenance)


def rescaled(parts: Callable[[], Iterator[Localizations]], provenance: Provenance) -> tuple[Iterator[Localizations], Provenance]:
    """Rescale a table that is read twice, part by part.

    Args:
        parts: begins to read the table.
        provenance: of the table.

    Returns:
        the parts with their positions rescaled, and the provenance that says so.

    Raises:
        TableError: the pixel size is not known, or the table was rescaled before.
    """
    size = known_pixel_size(Localizations.empty(provenance=provenance), None)
    before = provenance.settings.get("offset_rescaling")
    if isinstance(before, dict) and before.get("rescaled"):
        raise TableError("the sub-pixel positions of this table were rescaled before; take it as it is")
    found = OffsetRescaling.of(parts(), size)
    return (found.apply(part) for part in parts()), found.noted(provenance)


def _sample(parts: Iterable[Localizations]) -> tuple[Localizations, int]:
    """Take every row, or every second, fourth, ... one of a long table, without those that have no position; give the number of rows too."""
    names = ("frame", "x_nm", "y_nm", "z_nm", "sigma_x_nm", "sigma_y_nm")
    kept: list[Localizations] = []
    step, rows = 1, 0
    for part in parts:
        chosen = part.select(np.arange(-rows % step, len(part), step))
        kept.append(Localizations({name: chosen.columns[name] for name in names if name in chosen}))
        rows += len(part)
        while sum(map(len, kept)) > MOST_ROWS:
            joined = Localizations.concat(kept)
            kept, step = [joined.select(np.arange(0, len(joined), 2))], 2 * step
    if not kept:
        return Localizations.empty(), rows
    sample = Localizations.concat(kept)
    return sample.select(np.isfinite(sample.x_nm) & np.isfinite(sample.y_nm)), rows


def _by(table: Localizations, axis: str) -> np.ndarray:
    """Give what the bins of an axis are made by: depth, or the sigma, or nothing, (n,)."""
    name = "z_nm" if table.is_3d else f"sigma_{axis}_nm"
    return table.columns[name].astype(np.float64) if name in table else np.zeros(len(table))


def _sigma_px(table: Localizations, axis: str, pixel_nm: float) -> np.ndarray:
    """Give the stated errors, (n,) px; half a pixel where none is."""
    name = f"sigma_{axis}_nm"
    return table.columns[name] / pixel_nm if name in table else np.full(len(table), 0.5)


def _half_of(table: Localizations, pixel_size_nm: PixelSize) -> np.ndarray:
    """Say on which colour of a checkerboard rows lie, (n,) bool."""
    y_nm, x_nm = pixel_size_nm
    return (np.floor(table.x_nm / (BLOCK_PX * x_nm)) + np.floor(table.y_nm / (BLOCK_PX * y_nm))) % 2 == 0


def _axis(offset: np.ndarray, by: np.ndarray, half: np.ndarray, sigma_px: np.ndarray) -> AxisRescaling | None:
    """Put up the curves of one axis; None where there are too few rows."""
    usable = np.isfinite(by)
    offset, by, half, sigma_px = (values[usable] for values in (offset, by, half, sigma_px))
    n_bins = min(MOST_BINS, len(by) // LEAST_ROWS)
    if n_bins < 1:
        return None
    edges = np.unique(np.quantile(by, np.arange(1, n_bins) / n_bins)) if n_bins > 1 else np.empty(0)
    bins = np.searchsorted(edges, by, side="right")
    curves, shifts = [], np.zeros(len(by))
    for index in range(len(edges) + 1):
        here = np.flatnonzero(bins == index)
        curve = _curve(offset[here]) if len(here) >= LEAST_ROWS // 2 else KNOTS
        shift = np.interp(offset[here], KNOTS, curve) - offset[here]
        if not (_helps_the_other_half(offset[here], half[here]) and _rms(shift) <= _rms(sigma_px[here])):
            curve, shift = KNOTS, 0.0 * shift
        curves.append(curve)
        shifts[here] = shift
    return AxisRescaling(edges, np.stack(curves), _rms(shifts))


def _curve(offset: np.ndarray) -> np.ndarray:
    """Give ``F - 0.5`` at the knots, F the empirical cumulative distribution of offsets (n,) px."""
    return np.searchsorted(np.sort(offset), KNOTS) / max(1, len(offset)) - 0.5


def _helps_the_other_half(offset: np.ndarray, half: np.ndarray) -> bool:
    """Whether the curve of each half of the field makes the other half more even."""
    parts = offset[half], offset[~half]
    if min(map(len, parts)) < LEAST_ROWS // 10:
        return False
    return all(_unevenness(np.interp(theirs, KNOTS, _curve(mine))) < _unevenness(theirs) for mine, theirs in (parts, parts[::-1]))


def _unevenness(offset: np.ndarray) -> float:
    """Mean squared distance of the cumulative distribution of offsets from an even one (Cramer and von Mises)."""
    return float(((_curve(offset) - KNOTS) ** 2).mean())


def _rms(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt((finite**2).mean())) if len(finite) else 0.0
