"""Systematic differences between localizations and truth: a constant offset, or a wobble that depends on z."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import Localizations
from ..errors import TableError
from .matching import AXIAL_NM, LATERAL_NM, match

_FINAL_LATERAL_NM = 100.0
_FINAL_AXIAL_NM = 200.0
_STILL_NM = 0.01
_ROUNDS = 30


@dataclass(frozen=True)
class Offset:
    """A constant difference, found minus true, in nm; ``dz_nm`` is 0 where z was not compared.

    Args:
        dx_nm: along the columns.
        dy_nm: along the rows.
        dz_nm: along the axis.
        n_pairs: pairs that the last round was the median of.
    """

    dx_nm: float
    dy_nm: float
    dz_nm: float = 0.0
    n_pairs: int = 0


def find_offset(
    table: Localizations,
    truth: Localizations,
    *,
    dimensions: int | None = None,
    lateral_nm: float = LATERAL_NM,
    axial_nm: float = AXIAL_NM,
) -> Offset:
    """Estimate a constant offset as the median difference of pairs, found anew after each correction.

    Wrong pairs and the edge of the tolerance pull the first median towards zero. So the rounds go on with the localizations
    moved back by what was found so far, and with a tolerance that halves down to 100 nm (200 nm axially), until the median is
    below 0.01 nm. Offsets up to about half of ``lateral_nm`` are found where emitters are not dense.

    Args:
        table: the localizations, frames from 0.
        truth: the emitters, frames from 0.
        dimensions: 3 or 2; None takes 3 where both tables have z.
        lateral_nm: largest distance in x, y of a pair in the first round.
        axial_nm: the same in z.

    Raises:
        TableError: no localization lies near an emitter.
    """
    ways = dimensions or (3 if table.is_3d and truth.is_3d else 2)
    total = np.zeros(3)
    lateral, axial = lateral_nm, axial_nm
    n_pairs = 0
    for _ in range(_ROUNDS):
        moved = table.shifted(*(-total))
        pairs = match(moved, truth, dimensions=ways, lateral_nm=lateral, axial_nm=axial)
        if len(pairs) == 0:
            raise TableError(
                f"no localization lies within {lateral:.0f} nm of an emitter in its frame, so no offset can be found;"
                " check that pixel size, axes and frame numbers of the two tables agree"
            )
        step = np.zeros(3)
        for axis, name in enumerate(("x_nm", "y_nm", "z_nm")[:ways]):
            step[axis] = np.median(pairs.difference(name, moved, truth))
        total, n_pairs = total + step, len(pairs)
        smallest = lateral <= _FINAL_LATERAL_NM and axial <= _FINAL_AXIAL_NM
        if smallest and np.abs(step).max() < _STILL_NM:
            break
        lateral, axial = min(lateral, max(lateral / 2, _FINAL_LATERAL_NM)), min(axial, max(axial / 2, _FINAL_AXIAL_NM))
    return Offset(float(total[0]), float(total[1]), float(total[2]), n_pairs)


def remove_offset(table: Localizations, offset: Offset) -> Localizations:
    """Move the localizations back by a constant offset."""
    return table.shifted(-offset.dx_nm, -offset.dy_nm, -offset.dz_nm)


def shift_truth(truth: Localizations, wobble: np.ndarray) -> Localizations:
    """Add the (dx, dy) of the wobble's row nearest in z to each emitter; z stays.

    Of two equally near rows the earlier one counts.

    Args:
        truth: the emitters, with z.
        wobble: (n, 3) of dx, dy, z in nm; (dx, dy) is found minus true at depth z.

    Raises:
        TableError: the truth has no z.
    """
    if not truth.is_3d:
        raise TableError("the truth has no column z_nm, which a wobble correction needs; leave the wobble out")
    nearest = _nearest(wobble[:, 2], truth.z_nm)
    return truth.with_columns(x_nm=truth.x_nm + wobble[nearest, 0], y_nm=truth.y_nm + wobble[nearest, 1])


def _nearest(knots: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Give the row of ``knots`` nearest to each z, the earlier row where two are equally near."""
    order = np.argsort(knots, kind="stable")
    rising, first = np.unique(knots[order], return_index=True)
    row = order[first]
    above = np.clip(np.searchsorted(rising, z), 0, len(rising) - 1)
    below = np.maximum(above - 1, 0)
    to_above, to_below = np.abs(rising[above] - z), np.abs(rising[below] - z)
    take_below = (to_below < to_above) | ((to_below == to_above) & (row[below] < row[above]))
    return np.where(take_below, row[below], row[above])


def read_wobble(path: Path | str) -> np.ndarray:
    """Read a wobble table: lines ``dx,dy,z`` in nm without a header, (dx, dy) found minus true at depth z.

    Returns:
        (n, 3) float64.

    Raises:
        TableError: the file cannot be read or does not hold three numbers a line.
    """
    expected = "expected lines 'dx,dy,z' in nm without a header"
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise TableError(f"{path}: cannot read the wobble table ({problem}); {expected}") from problem
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = [float(word) for word in line.split(",")]
        except ValueError:
            row = []
        if len(row) != 3 or not np.isfinite(row).all():
            raise TableError(f"{path}, line {number}: found '{line[:60]}'; {expected}")
        rows.append(row)
    if not rows:
        raise TableError(f"{path}: the wobble table is empty; {expected}")
    return np.array(rows)
