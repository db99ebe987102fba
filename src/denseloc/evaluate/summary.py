"""An assessment as a plain table for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .challenge import Assessment
from .colours import describe_colours

_HEADINGS = {
    "3d_all": "3D, all",
    "3d_p25": "3D, brightest 75 %",
    "2d_all": "2D, all",
    "2d_p25": "2D, brightest 75 %",
}

_LINES: tuple[tuple[str, str, Callable[[Assessment], float]], ...] = (
    ("photon threshold", ".0f", lambda a: a.photon_threshold),
    ("emitters inside the border", ".0f", lambda a: a.n_gt_in_border),
    ("localizations inside the border", ".0f", lambda a: a.n_loc_in_border),
    ("true positives", ".0f", lambda a: a.TP),
    ("false positives", ".0f", lambda a: a.FP),
    ("missed emitters", ".0f", lambda a: a.FN),
    ("recall / %", ".1f", lambda a: 100 * a.recall),
    ("precision / %", ".1f", lambda a: 100 * a.precision),
    ("Jaccard / %", ".1f", lambda a: a.jaccard_percent),
    ("RMSE lateral / nm", ".1f", lambda a: a.rmse_lateral_nm),
    ("RMSE axial / nm", ".1f", lambda a: a.rmse_axial_nm),
    ("mean dx / nm", ".1f", lambda a: a.mean_dx_nm),
    ("mean dy / nm", ".1f", lambda a: a.mean_dy_nm),
    ("mean dz / nm", ".1f", lambda a: a.mean_dz_nm),
    ("right channel / %", ".1f", lambda a: math.nan if a.colours is None else 100 * a.colours.right),
    ("efficiency lateral", ".1f", lambda a: a.efficiency_from_formula.get("E_lateral", math.nan)),
    ("efficiency axial", ".1f", lambda a: a.efficiency_from_formula.get("E_axial", math.nan)),
    ("efficiency", ".1f", lambda a: a.efficiency_from_formula.get("E_3d", math.nan)),
)


def describe(assessment: Assessment | Mapping[str, Assessment]) -> str:
    """Write one assessment, or several side by side as `assess_all` gives them, as plain text.

    Where both tables tell colour channels, it ends with who is taken for whom in the first assessment. Lines that are undefined in every
    column are left out; an undefined number among others is a dash. Differences are found minus true.
    """
    columns = {"": assessment} if isinstance(assessment, Assessment) else dict(assessment)
    headings = [_HEADINGS.get(key, key) for key in columns]
    rows = [["", *headings]] if any(headings) else []
    for label, form, value in _LINES:
        numbers = [value(a) for a in columns.values()]
        if any(math.isfinite(n) for n in numbers):
            rows.append([label, *(format(n, form) if math.isfinite(n) else "-" for n in numbers)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns) + 1)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
    told = next((a.colours for a in columns.values() if a.colours is not None), None)
    return "\n".join(lines) + ("" if told is None else f"\n\n{describe_colours(told)}")
