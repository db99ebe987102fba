"""Compare a table with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Localizations
from ..evaluate import Assessment, Offset, assess_all, find_offset, read_wobble
from ..evaluate import remove_offset as without_offset
from ..evaluate.challenge import BORDER_NM, Rectangle
from ..evaluate.matching import AXIAL_NM, LATERAL_NM
from ..formats import read_table

Table = Localizations | Path | str


def evaluate(
    table: Table,
    truth: Table,
    *,
    wobble: np.ndarray | Path | str | None = None,
    remove_offset: bool = False,
    whole: bool = False,
    field_nm: tuple[float, float] | None = None,
    border_nm: float = BORDER_NM,
    lateral_nm: float = LATERAL_NM,
    axial_nm: float = AXIAL_NM,
) -> dict[str, Assessment]:
    """Compare localizations with the truth by the rule of the SMLM challenge, in every way that the tables allow.

    Args:
        table: the localizations, or their file; any format that can be read.
        truth: the emitters, or their file; of a table that says which frames and which region were localized, all others are left out.
        wobble: correction (n, 3) of dx, dy, z in nm, or its file.
        remove_offset: move the localizations by a constant offset, found from the tables, before they are judged.
        whole: compare with the whole truth, whatever frames and region the table says were localized.
        field_nm: (height, width) of the camera field; None as in `evaluate.assess`.
        border_nm: width of the border of the field, or of the region, that does not count.
        lateral_nm: largest distance in x, y of a pair.
        axial_nm: largest distance in z of a pair, in 3D.

    Returns:
        assessments under the keys ``3d_all``, ``3d_p25``, ``2d_all``, ``2d_p25``; those that the tables do not allow are absent.

    Raises:
        TableError: a table cannot be read, or a column that is needed is missing.
    """
    found = opened(table)
    part = Part() if whole else Part.of(found)
    true = part.of_truth(opened(truth))
    if remove_offset:
        found = without_offset(found, find_offset(found, true))
    correction = read_wobble(wobble) if isinstance(wobble, (str, Path)) else wobble
    rule: dict[str, Any] = {"field_nm": field_nm, "border_nm": border_nm, "lateral_nm": lateral_nm, "axial_nm": axial_nm}
    return assess_all(found, true, region_nm=part.region_nm, wobble=correction, **rule)


def opened(table: Table) -> Localizations:
    """Read a table unless it is one."""
    return table if isinstance(table, Localizations) else read_table(table)


@dataclass(frozen=True)
class Part:
    """The part of a movie that was localized; None where all of it was, or where that is not known.

    Args:
        frames: (start, stop).
        roi_px: (y0, x0, height, width) of the region in pixels of the camera field.
        region_nm: its edges.
    """

    frames: tuple[int, int] | None = None
    roi_px: tuple[int, int, int, int] | None = None
    region_nm: Rectangle | None = None

    @staticmethod
    def of(table: Localizations) -> Part:
        """Read it from what a table says of itself."""
        known = table.provenance
        frames, roi = (_whole_numbers(known.settings.get(name), n) for name, n in (("frames", 2), ("roi_px", 4)))
        start_stop = None if frames is None else (frames[0], frames[1])
        size = known.pixel_size_nm
        if roi is None or size is None or known.shape_px is None or roi == (0, 0, *known.shape_px):
            return Part(start_stop)
        y0, x0, height, width = roi
        edges = (y0 * size[0], x0 * size[1], (y0 + height) * size[0], (x0 + width) * size[1])
        return Part(start_stop, (y0, x0, height, width), edges)

    def of_truth(self, truth: Localizations) -> Localizations:
        """Keep the emitters of this part."""
        inside = np.ones(len(truth), bool)
        if self.frames is not None:
            inside &= (truth.frame >= self.frames[0]) & (truth.frame < self.frames[1])
        if self.region_nm is not None:
            top, left, bottom, right = self.region_nm
            inside &= (truth.y_nm >= top) & (truth.y_nm < bottom) & (truth.x_nm >= left) & (truth.x_nm < right)
        return truth if inside.all() else truth.select(inside)

    def in_words(self) -> str:
        """Say which part it is."""
        words = [] if self.frames is None else [f"frames {self.frames[0]} to {self.frames[1] - 1}"]
        if self.roi_px is not None:
            y0, x0, height, width = self.roi_px
            words.append(f"rows {y0} to {y0 + height - 1}, columns {x0} to {x0 + width - 1}")
        return "; ".join(words)

    def to_json(self, left_out: int) -> dict[str, Any]:
        """Give plain JSON values: the part, and how many true emitters it leaves out."""
        numbers = {"frames": self.frames, "roi_px": self.roi_px}
        return {**{name: None if one is None else list(one) for name, one in numbers.items()}, "true_emitters_left_out": left_out}


def _whole_numbers(value: Any, n: int) -> tuple[int, ...] | None:
    """Give n whole numbers as they stand in the settings of a table; None where something else stands there."""
    fits = isinstance(value, (list, tuple)) and len(value) == n and all(type(one) is int for one in value)
    return tuple(value) if fits else None


def offset_between(table: Table, truth: Table) -> Offset:
    """Find the constant offset that ``evaluate(..., remove_offset=True)`` takes away."""
    return find_offset(opened(table), opened(truth))
