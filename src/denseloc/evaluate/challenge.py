"""The assessment of the SMLM challenge 2016: detection, errors and efficiency by the rule that made its leaderboard.

Source: Sage et al., Nature Methods 16:387 (2019), and the Matlab programs of the organisers, whose numbers this reproduces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from ..data import Localizations
from ..errors import TableError
from .colours import ColourConfusion, colour_confusion
from .matching import AXIAL_NM, LATERAL_NM, Pairs, match
from .offset import shift_truth

Threshold = Literal["all", "p25"]
Rectangle = tuple[float, float, float, float]
"""Edges (top, left, bottom, right) in nm."""

BORDER_NM = 450.0
FIELD_NM = (6400.0, 6400.0)
LATERAL_WEIGHT_PER_NM = 1.0
AXIAL_WEIGHT_PER_NM = 0.5


@dataclass(frozen=True)
class Assessment:
    """What one assessment found. A number that is undefined (nothing paired) is NaN; `to_json` gives None for it.

    Args:
        photon_threshold: emitters up to this many photons neither count as missed nor make a localization false.
        n_gt_in_border: emitters inside the border, bright and dim.
        n_loc_in_border: localizations inside the border.
        TP: pairs with an emitter above the threshold.
        FP: localizations inside the border without an emitter.
        FN: emitters above the threshold without a localization.
        recall: TP / (TP + FN), 0 .. 1.
        precision: TP / (TP + FP), 0 .. 1.
        fscore: harmonic mean of recall and precision, 0 .. 1.
        jaccard_percent: 100 TP / (TP + FP + FN).
        rmse_lateral_nm: root of the mean of dx^2 + dy^2 over the true positives (a distance, not an error per axis).
        rmse_axial_nm: root of the mean of dz^2.
        rmse_volume_nm: root of the mean of dx^2 + dy^2 + dz^2.
        mad_lateral_nm: mean of abs(dx) + abs(dy).
        mad_axial_nm: mean of abs(dz).
        mad_volume_nm: mean of abs(dx) + abs(dy) + abs(dz).
        mean_dx_nm: mean of dx, found minus true.
        mean_dy_nm: mean of dy.
        mean_dz_nm: mean of dz.
        colours: who is taken for whom among the true positives, where both tables tell colour channels; not of the challenge.
        efficiency_from_formula: E_lateral, and E_axial and E_3d where the pairing was in 3D; at most 100, can be negative; empty
            if undefined.
    """

    photon_threshold: float
    n_gt_in_border: int
    n_loc_in_border: int
    TP: int
    FP: int
    FN: int
    recall: float
    precision: float
    fscore: float
    jaccard_percent: float
    rmse_lateral_nm: float
    rmse_axial_nm: float
    rmse_volume_nm: float
    mad_lateral_nm: float
    mad_axial_nm: float
    mad_volume_nm: float
    mean_dx_nm: float
    mean_dy_nm: float
    mean_dz_nm: float
    efficiency_from_formula: Mapping[str, float] = field(default_factory=dict)
    colours: ColourConfusion | None = None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values, None where a number is undefined; colours only where they are told."""
        values = asdict(self)
        del values["colours"]
        if self.colours is not None:
            values["colours"] = self.colours.to_json()
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def assess(
    table: Localizations,
    truth: Localizations,
    *,
    dimensions: Literal[2, 3],
    threshold: Threshold = "all",
    field_nm: tuple[float, float] | None = None,
    region_nm: Rectangle | None = None,
    border_nm: float = BORDER_NM,
    lateral_nm: float = LATERAL_NM,
    axial_nm: float = AXIAL_NM,
    wobble: np.ndarray | None = None,
) -> Assessment:
    """Compare localizations with the truth by the rule of the SMLM challenge.

    The steps: the wobble moves the truth; rows within ``border_nm`` of the field's edge are dropped, each on its own
    coordinates; the threshold is 0 photons (``all``) or the whole photons of the dimmest quarter of the remaining emitters
    (``p25``); all remaining rows are paired; dim emitters and what is paired with them then leave the count.

    Args:
        table: the localizations, frames from 0.
        truth: one row for each emitter in each frame, frames from 0.
        dimensions: 3 pairs by x, y, z; 2 pairs by x, y.
        threshold: ``all`` emitters, or ``p25`` without the dimmest quarter.
        field_nm: (height, width) of the camera field; None takes it from the provenance of the truth or of the localizations, else
            6400 x 6400 nm (the challenge's field) if the truth lies inside of it, else the largest y and x in the two tables.
        region_nm: part of the field that was looked at; its edges are those of the comparison. None is the whole field.
        border_nm: width of the border that does not count.
        lateral_nm: largest distance in x, y of a pair.
        axial_nm: largest distance in z of a pair, in 3D.
        wobble: (n, 3) of dx, dy, z in nm, found minus true at depth z, added to the truth (see `offset.read_wobble`).

    Raises:
        TableError: a column that this needs is missing (z for 3D or wobble, photons for p25).
    """
    rule = _Rule(dimensions, field_nm, region_nm, border_nm, lateral_nm, axial_nm)
    return _count(_prepare(table, truth, rule, wobble), threshold)


def assess_all(
    table: Localizations,
    truth: Localizations,
    *,
    field_nm: tuple[float, float] | None = None,
    region_nm: Rectangle | None = None,
    border_nm: float = BORDER_NM,
    lateral_nm: float = LATERAL_NM,
    axial_nm: float = AXIAL_NM,
    wobble: np.ndarray | None = None,
) -> dict[str, Assessment]:
    """Assess in every way that the tables allow, under the keys ``3d_all``, ``3d_p25``, ``2d_all``, ``2d_p25``.

    The 3D keys are absent where one of the tables has no z, the p25 keys where the truth has no photons. Arguments as in `assess`.
    """
    found = {}
    ways: tuple[Literal[3, 2], ...] = (3, 2) if table.is_3d and truth.is_3d else (2,)
    thresholds: tuple[Threshold, ...] = ("all", "p25") if "photons" in truth else ("all",)
    for dimensions in ways:
        rule = _Rule(dimensions, field_nm, region_nm, border_nm, lateral_nm, axial_nm)
        compared = _prepare(table, truth, rule, wobble)
        for threshold in thresholds:
            found[f"{dimensions}d_{threshold}"] = _count(compared, threshold)
    return found


@dataclass(frozen=True)
class _Rule:
    """What `assess` was told, without the threshold; all lengths in nm."""

    dimensions: Literal[2, 3]
    field_nm: tuple[float, float] | None
    region_nm: Rectangle | None
    border_nm: float
    lateral_nm: float
    axial_nm: float


@dataclass(frozen=True, eq=False)
class _Compared:
    """Rows inside the border and their pairs; what both thresholds share."""

    table: Localizations
    truth: Localizations
    pairs: Pairs
    dimensions: int


def _prepare(table: Localizations, truth: Localizations, rule: _Rule, wobble: np.ndarray | None) -> _Compared:
    """Move the truth by the wobble, drop the border, pair what is left."""
    height, width = field_size_nm(table, truth) if rule.field_nm is None else rule.field_nm
    top, left, bottom, right = rule.region_nm or (0.0, 0.0, height, width)
    edges = (max(top, 0.0), max(left, 0.0), min(bottom, height), min(right, width))
    if wobble is not None:
        truth = shift_truth(truth, wobble)
    table, truth = (_inside(rows, edges, rule.border_nm) for rows in (table, truth))
    pairs = match(table, truth, dimensions=rule.dimensions, lateral_nm=rule.lateral_nm, axial_nm=rule.axial_nm)
    return _Compared(table, truth, pairs, rule.dimensions)


def field_size_nm(table: Localizations, truth: Localizations) -> tuple[float, float]:
    """Find (height, width) of the camera field in nm where it was not given; the order of the sources is that of `assess`."""
    for source in (truth.provenance, table.provenance):
        if source.shape_px is not None and source.pixel_size_nm is not None:
            return (source.shape_px[0] * source.pixel_size_nm[0], source.shape_px[1] * source.pixel_size_nm[1])
    if len(truth) == 0 or (_low(truth) >= 0 and truth.y_nm.max() <= FIELD_NM[0] and truth.x_nm.max() <= FIELD_NM[1]):
        return FIELD_NM
    parts = [rows for rows in (table, truth) if len(rows)]
    return max(float(p.y_nm.max()) for p in parts), max(float(p.x_nm.max()) for p in parts)


def _low(rows: Localizations) -> float:
    """Give the smallest coordinate in the plane."""
    return min(float(rows.x_nm.min()), float(rows.y_nm.min()))


def _inside(rows: Localizations, edges_nm: Rectangle, border_nm: float) -> Localizations:
    """Keep the rows further than ``border_nm`` from every edge; a row exactly on the line is dropped."""
    top, left, bottom, right = edges_nm
    in_x = (rows.x_nm > left + border_nm) & (rows.x_nm < right - border_nm)
    in_y = (rows.y_nm > top + border_nm) & (rows.y_nm < bottom - border_nm)
    return rows.select(in_x & in_y)


def _photon_threshold(truth: Localizations, threshold: Threshold) -> float:
    """Give 0, or the 25 % quantile of the photons by the midpoint rule, rounded down."""
    if threshold == "all":
        return 0.0
    if "photons" not in truth:
        raise TableError("the truth has no column photons, which the threshold p25 needs; use the threshold 'all'")
    if len(truth) == 0:
        return 0.0
    return float(math.floor(np.quantile(truth.photons.astype(np.float64), 0.25, method="hazen")))


def _count(compared: _Compared, threshold: Threshold) -> Assessment:
    """Count and average the pairs whose emitter is above the threshold."""
    table, truth, pairs = compared.table, compared.truth, compared.pairs
    limit = _photon_threshold(truth, threshold)
    bright = truth.photons.astype(np.float64) > limit if "photons" in truth else np.ones(len(truth), bool)
    counts = bright[pairs.truth]
    true = Pairs(pairs.table[counts], pairs.truth[counts])
    tp = len(true)
    fn = int(bright.sum()) - tp
    fp = len(table) - len(pairs)
    recall, precision = _ratio(tp, tp + fn), _ratio(tp, tp + fp)
    jaccard = 100.0 * _ratio(tp, tp + fp + fn)
    errors = _errors(true, table, truth)
    return Assessment(
        photon_threshold=limit,
        n_gt_in_border=len(truth),
        n_loc_in_border=len(table),
        TP=tp,
        FP=fp,
        FN=fn,
        recall=recall,
        precision=precision,
        fscore=_ratio(2 * precision * recall, precision + recall),
        jaccard_percent=jaccard,
        **errors,
        efficiency_from_formula=_efficiency(jaccard, errors, compared.dimensions) if tp else {},
        colours=colour_confusion(table, truth, true),
    )


def _ratio(part: float, whole: float) -> float:
    """Divide; NaN where there is nothing to divide by."""
    return part / whole if whole else math.nan


def _errors(pairs: Pairs, table: Localizations, truth: Localizations) -> dict[str, float]:
    """Average the errors over the pairs; NaN without pairs, and along z where a table has none."""
    undefined = np.full(len(pairs), np.nan)
    dx, dy = pairs.difference("x_nm", table, truth), pairs.difference("y_nm", table, truth)
    dz = pairs.difference("z_nm", table, truth) if table.is_3d and truth.is_3d else undefined
    lateral, axial = dx**2 + dy**2, dz**2
    return {
        "rmse_lateral_nm": math.sqrt(_mean(lateral)),
        "rmse_axial_nm": math.sqrt(_mean(axial)),
        "rmse_volume_nm": math.sqrt(_mean(lateral + axial)),
        "mad_lateral_nm": _mean(np.abs(dx) + np.abs(dy)),
        "mad_axial_nm": _mean(np.abs(dz)),
        "mad_volume_nm": _mean(np.abs(dx) + np.abs(dy) + np.abs(dz)),
        "mean_dx_nm": _mean(dx),
        "mean_dy_nm": _mean(dy),
        "mean_dz_nm": _mean(dz),
    }


def _mean(values: np.ndarray) -> float:
    """Average; NaN of nothing."""
    return float(values.mean()) if len(values) else math.nan


def _efficiency(jaccard_percent: float, errors: Mapping[str, float], dimensions: int) -> dict[str, float]:
    """Combine detection and error: ``E = 100 - sqrt((100 - J)^2 + (alpha rmse)^2)``, alpha 1 / nm in x, y and 0.5 / nm in z."""
    miss = 100.0 - jaccard_percent
    lateral = 100.0 - math.hypot(miss, LATERAL_WEIGHT_PER_NM * errors["rmse_lateral_nm"])
    if dimensions == 2:
        return {"E_lateral": lateral}
    axial = 100.0 - math.hypot(miss, AXIAL_WEIGHT_PER_NM * errors["rmse_axial_nm"])
    return {"E_lateral": lateral, "E_axial": axial, "E_3d": (lateral + axial) / 2.0}
