"""Compare a table with the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data import Localizations
from ..evaluate import Assessment, Offset, assess_all, find_offset, read_wobble
from ..evaluate import remove_offset as without_offset
from ..evaluate.challenge import BORDER_NM
from ..evaluate.matching import AXIAL_NM, LATERAL_NM
from ..formats import read_table

Table = Localizations | Path | str


def evaluate(
    table: Table,
    truth: Table,
    *,
    wobble: np.ndarray | Path | str | None = None,
    remove_offset: bool = False,
    field_nm: tuple[float, float] | None = None,
    border_nm: float = BORDER_NM,
    lateral_nm: float = LATERAL_NM,
    axial_nm: float = AXIAL_NM,
) -> dict[str, Assessment]:
    """Compare localizations with the truth by the rule of the SMLM challenge, in every way that the tables allow.

    Args:
        table: the localizations, or their file; any format that can be read.
        truth: the emitters, or their file; of a table that says which frames were localized, those of other frames are left out.
        wobble: correction (n, 3) of dx, dy, z in nm, or its file.
        remove_offset: move the localizations by a constant offset, found from the tables, before they are judged.
        field_nm: (height, width) of the camera field; None as in `evaluate.assess`.
        border_nm: width of the border that does not count.
        lateral_nm: largest distance in x, y of a pair.
        axial_nm: largest distance in z of a pair, in 3D.

    Returns:
        assessments under the keys ``3d_all``, ``3d_p25``, ``2d_all``, ``2d_p25``; those that the tables do not allow are absent.

    Raises:
        TableError: a table cannot be read, or a column that is needed is missing.
    """
    found = opened(table)
    true = in_frames(opened(truth), found)
    if remove_offset:
        found = without_offset(found, find_offset(found, true))
    correction = read_wobble(wobble) if isinstance(wobble, (str, Path)) else wobble
    return assess_all(
        found, true, field_nm=field_nm, border_nm=border_nm, lateral_nm=lateral_nm, axial_nm=axial_nm, wobble=correction
    )


def opened(table: Table) -> Localizations:
    """Read a table unless it is one."""
    return table if isinstance(table, Localizations) else read_table(table)


def in_frames(truth: Localizations, found: Localizations) -> Localizations:
    """Keep the emitters of the frames that were localized, as the table says itself; all where it does not say it."""
    frames = found.provenance.settings.get("frames")
    if not (isinstance(frames, (list, tuple)) and len(frames) == 2 and all(type(end) is int for end in frames)):
        return truth
    inside = (truth.frame >= frames[0]) & (truth.frame < frames[1])
    return truth if inside.all() else truth.select(inside)


def offset_between(table: Table, truth: Table) -> Offset:
    """Find the constant offset that ``evaluate(..., remove_offset=True)`` takes away."""
    return find_offset(opened(table), opened(truth))
