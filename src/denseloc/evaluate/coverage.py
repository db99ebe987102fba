"""Whether stated errors are the true ones: pulls, coverage, and the calibration of probabilities.

A pull is an error over its sigma, ``(found - true) / sigma``. Of errors that are normal and honestly stated, the pulls have the standard
deviation 1, and the share ``erf(k / sqrt(2))`` of them lies within k sigma: 68.3 % within one, 95.4 % within two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ..data import Localizations
from .matching import Pairs

LEVELS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Numbers of sigmas at which coverage is counted."""
NOMINAL = tuple(math.erf(k / math.sqrt(2)) for k in LEVELS)
"""Share of honest normal errors within them."""
SIGMAS = {"x_nm": "sigma_x_nm", "y_nm": "sigma_y_nm", "z_nm": "sigma_z_nm", "photons": "sigma_photons"}
"""What is compared, and the column that states its error."""
NEIGHBOUR_NM = (0.0, 150.0, 300.0, 600.0, 1200.0, math.inf)
PHOTON_BINS = 4
PROBABILITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
MAD_TO_SD = 1.4826
LEAST_SAID = 100
"""Fewer pairs are not worth words: shares would be off by five percent by chance."""


@dataclass(frozen=True)
class Pulls:
    """The pulls of one quantity. A number that is undefined (no pairs) is NaN.

    Args:
        n: pairs with a usable sigma.
        median: of the pulls; other than 0 where errors lean to one side.
        robust_sd: 1.4826 times the median distance from the median, 1 where sigma is right.
        inside: share within `LEVELS` sigmas, to be compared with `NOMINAL`.
    """

    n: int
    median: float
    robust_sd: float
    inside: tuple[float, ...]

    def within(self, k: float) -> float:
        """Give the share within k sigmas, k one of `LEVELS`."""
        return self.inside[LEVELS.index(k)]


@dataclass(frozen=True)
class Group:
    """The pulls of pairs between two limits: photons, or nm to the nearest other emitter of the frame."""

    low: float
    high: float
    pulls: Mapping[str, Pulls]


@dataclass(frozen=True)
class Reliability:
    """Localizations of similar probability.

    Args:
        n: localizations.
        stated: mean of their probabilities.
        actual: share that belongs to an emitter.
    """

    n: int
    stated: float
    actual: float


@dataclass(frozen=True)
class Coverage:
    """How far the uncertainties of a table can be believed.

    Args:
        n_pairs: localizations with an emitter.
        pulls: by quantity (keys of `SIGMAS`); those that the table states.
        by_photons: the same in quarters of the true photons.
        by_neighbour: the same by the distance to the nearest other emitter of the frame, in nm.
        reliability: of the probabilities, rising; empty where the table has none.
    """

    n_pairs: int
    pulls: Mapping[str, Pulls]
    by_photons: tuple[Group, ...] = ()
    by_neighbour: tuple[Group, ...] = ()
    reliability: tuple[Reliability, ...] = ()

    @property
    def probability_error(self) -> float:
        """Mean distance of stated probability and actual share over the localizations; NaN without any."""
        n = sum(step.n for step in self.reliability)
        return sum(step.n * abs(step.stated - step.actual) for step in self.reliability) / n if n else math.nan

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values rounded to four digits, None where a number is undefined or has no bound."""
        values = asdict(self) | {"levels": LEVELS, "nominal": NOMINAL, "probability_error": self.probability_error}
        plain: dict[str, Any] = _plain(values)
        return plain


def coverage(table: Localizations, truth: Localizations, pairs: Pairs, *, truth_nm: float = 1.0) -> Coverage:
    """Compare errors with what is stated of them.

    Args:
        table: the localizations, with sigmas.
        truth: the emitters.
        pairs: which belongs to which, as `match` gives them.
        truth_nm: emitters nearer to each other than this count as one place when neighbours are sought.

    Returns:
        Pulls of all pairs and of groups; groups without pairs are left out.
    """
    found = {name: pulls_of(table, truth, pairs, name) for name in SIGMAS if _is_stated(table, truth, name)}
    near = nearest_neighbour_nm(truth, truth_nm)[pairs.truth]
    light = truth.photons[pairs.truth].astype(np.float64) if "photons" in truth else np.zeros(0)
    edges = np.quantile(light, np.linspace(0, 1, PHOTON_BINS + 1)) if len(light) else np.zeros(0)
    taken = np.zeros(len(table), bool)
    taken[pairs.table] = True
    return Coverage(
        n_pairs=len(pairs),
        pulls={name: summarize(values) for name, values in found.items()},
        by_photons=_groups(found, light, edges),
        by_neighbour=_groups(found, near, NEIGHBOUR_NM),
        reliability=reliability(table.probability, taken) if "probability" in table else (),
    )


def pulls_of(table: Localizations, truth: Localizations, pairs: Pairs, name: str) -> np.ndarray:
    """Give the pulls (n,) of one quantity over all pairs, NaN where sigma is no positive number."""
    sigma = table.columns[SIGMAS[name]][pairs.table].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls = pairs.difference(name, table, truth) / sigma
    return np.where(np.isfinite(pulls) & (sigma > 0), pulls, np.nan)


def summarize(pulls: np.ndarray) -> Pulls:
    """Sum up pulls (n,); NaNs do not count."""
    good = pulls[np.isfinite(pulls)]
    if not len(good):
        return Pulls(0, math.nan, math.nan, (math.nan,) * len(LEVELS))
    median = float(np.median(good))
    spread = MAD_TO_SD * float(np.median(np.abs(good - median)))
    return Pulls(len(good), median, spread, tuple(float(np.mean(np.abs(good) < k)) for k in LEVELS))


def read_pulls(values: Any) -> dict[str, Pulls]:
    """Read the pulls of `Coverage.to_json`; what is none, as tables and models of others may hold, gives nothing."""
    found = {}
    for name in SIGMAS:
        one = values.get(name) if isinstance(values, Mapping) else None
        inside = one.get("inside") if isinstance(one, Mapping) else None
        if not isinstance(one, Mapping) or not isinstance(inside, (list, tuple)) or len(inside) != len(LEVELS):
            continue
        numbers = (one.get("n"), one.get("median"), one.get("robust_sd"), *inside)
        if all(isinstance(v, (int, float)) and math.isfinite(v) for v in numbers) and all(0 <= v <= 1 for v in inside):
            found[name] = Pulls(int(numbers[0]), float(numbers[1]), float(numbers[2]), tuple(float(v) for v in inside))
    return found


def in_words(pulls: Mapping[str, Pulls]) -> str:
    """Say coverage in one line: ``x 69 and 93 %, y 68 and 93 % of errors within one and two sigma (68 and 95 % if right)``."""
    said = {name.removesuffix("_nm"): one for name, one in pulls.items() if one.n >= LEAST_SAID}
    parts = [f"{name} {100 * one.within(1.0):.0f} and {100 * one.within(2.0):.0f} %" for name, one in said.items()]
    ideal = " and ".join(f"{100 * NOMINAL[LEVELS.index(k)]:.0f}" for k in (1.0, 2.0))
    return f"{', '.join(parts)} of errors within one and two sigma ({ideal} % if right)" if parts else "not measured"


def reliability(probability: np.ndarray, real: np.ndarray, edges: Sequence[float] = PROBABILITIES) -> tuple[Reliability, ...]:
    """Compare probabilities (n,) with the share that is real (n,) bool, in bins; empty bins are left out."""
    p = probability.astype(np.float64)
    which = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
    steps = []
    for i in np.unique(which):
        here = which == i
        steps.append(Reliability(int(here.sum()), float(p[here].mean()), float(real[here].mean())))
    return tuple(steps)


def nearest_neighbour_nm(truth: Localizations, least_nm: float = 1.0) -> np.ndarray:
    """Give the distance in the plane of each emitter to the nearest other one of its frame, (n,) nm; infinite where it is alone."""
    if len(truth) < 2:
        return np.full(len(truth), math.inf)
    extent = float(max(np.ptp(truth.x_nm), np.ptp(truth.y_nm), least_nm))
    frame = np.unique(truth.frame, return_inverse=True)[1].reshape(-1)
    points = np.stack([truth.x_nm, truth.y_nm, frame * 4 * extent], axis=1)
    distance = cKDTree(points).query(points, k=2)[0][:, 1]
    return np.where(distance < 3 * extent, np.maximum(distance, least_nm), math.inf)


def _is_stated(table: Localizations, truth: Localizations, name: str) -> bool:
    return name in table and name in truth and SIGMAS[name] in table


def _groups(pulls: Mapping[str, np.ndarray], values: np.ndarray, edges: Sequence[float] | np.ndarray) -> tuple[Group, ...]:
    """Sum up the pulls between each two edges; the last edge belongs to the last group."""
    groups = []
    for low, high in pairwise(edges):
        here = (values >= low) & ((values < high) | (high == edges[-1]) & (values <= high))
        if here.any():
            groups.append(Group(float(low), float(high), {name: summarize(each[here]) for name, each in pulls.items()}))
    return tuple(groups)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value
