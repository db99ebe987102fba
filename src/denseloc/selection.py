"""Which localizations to keep: least probability, largest sigma, least photons, and all but a share of largest expected error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .data import Localizations, Provenance
from .errors import TableError

LARGEST_RATE = 0.85
"""Share of the rows that may be left out: the paper of LUENN filters up to it; what is left of fewer shows the filter more than the sample."""


@dataclass(frozen=True)
class Selection:
    """Conditions on the rows of a table; None asks for nothing. Rows whose value is not a number are left out.

    All but ``filter_rate`` look at each row alone (`keep`). That one looks at the whole table: `of` applies all to a table in memory, `limit` and
    `within`, or `whole`, to a table in parts.

    Args:
        min_probability: least probability, 0 to 1.
        max_sigma_nm: largest standard deviation in x and in y.
        min_photons: least photons.
        filter_rate: share, 0 to 0.85, of the rows that the other conditions leave: those of the largest expected error go. Rows that tie with
            the worst one that is kept are kept too.

    Raises:
        TableError: an impossible number.
    """

    min_probability: float | None = None
    max_sigma_nm: float | None = None
    min_photons: float | None = None
    filter_rate: float | None = None

    def __post_init__(self) -> None:
        for name, value, holds, expected in (
            ("min-probability", self.min_probability, lambda v: 0 <= v <= 1, "a number from 0 to 1"),
            ("max-sigma-nm", self.max_sigma_nm, lambda v: v > 0, "a number of nm above 0"),
            ("min-photons", self.min_photons, lambda v: v >= 0, "a number of photons, at least 0"),
            (
                "filter-rate",
                self.filter_rate,
                lambda v: 0 <= v <= LARGEST_RATE,
                f"a share from 0 to {LARGEST_RATE:g}, as fewer rows show the filter more than the sample (--max-sigma-nm sets a limit in nm)",
            ),
        ):
            if value is not None and not (math.isfinite(value) and holds(value)):
                raise TableError(f"--{name} {value:g}; expected {expected}")

    def __bool__(self) -> bool:
        return bool(self.to_json())

    def to_json(self) -> dict[str, float]:
        """Give what is asked for as plain JSON values."""
        return {name: float(value) for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        parts = (
            (self.min_probability, "probability at least {:g}"),
            (self.max_sigma_nm, "sigma in x and y at most {:g} nm"),
            (self.min_photons, "at least {:g} photons"),
            (None if self.filter_rate is None else 100 * self.filter_rate, "without the {:.3g} % of largest expected error"),
        )
        return ", ".join(text.format(value) for value, text in parts if value is not None)

    def keep(self, table: Localizations) -> Localizations:
        """Take the rows that fulfil the conditions on each row alone; the provenance stays as it was.

        Raises:
            TableError: the table lacks a column that is needed.
        """
        if not self:
            return table
        kept = np.ones(len(table), bool)
        if self.min_probability is not None:
            kept &= _column(table, "probability", "min-probability") >= np.float32(self.min_probability)
        if self.max_sigma_nm is not None:
            kept &= _column(table, "sigma_x_nm", "max-sigma-nm") <= self.max_sigma_nm
            kept &= True if "sigma_y_nm" not in table else table.sigma_y_nm <= self.max_sigma_nm
        if self.min_photons is not None:
            kept &= _column(table, "photons", "min-photons") >= self.min_photons
        if self.filter_rate is not None:
            kept &= np.isfinite(expected_error_nm(table))
        return table.select(kept)

    def limit(self, parts: Callable[[], Iterable[Localizations]]) -> float:
        """Give the largest expected error in nm that the filter rate lets pass; infinity without one.

        Args:
            parts: gives the parts of the table, as `keep` has left them, anew at each call.
        """
        return math.inf if self.filter_rate is None else error_limit_nm(parts, self.filter_rate)

    def within(self, table: Localizations, limit_nm: float) -> Localizations:
        """Take the rows whose expected error is within the limit."""
        return table if math.isinf(limit_nm) else table.select(expected_error_nm(table) <= np.float32(limit_nm))

    def whole(self, parts: Callable[[], Iterable[Localizations]]) -> Iterator[Localizations]:
        """Take the rows that the filter rate leaves of a table in parts, which it goes through three times; memory does not grow with it."""
        limit = self.limit(parts)
        for part in parts():
            yield self.within(part, limit)

    def noted(self, provenance: Provenance) -> Provenance:
        """Write the conditions into a provenance, beside what it says already; the sharper of two like ones holds."""
        if not self:
            return provenance
        both = self._with(_earlier(provenance.settings.get("selection")))
        assumed = [line for line in provenance.settings.get("assumed", ()) if not str(line).startswith("kept: ")]
        settings = {**provenance.settings, "selection": both.to_json(), "assumed": [*assumed, f"kept: {both}"]}
        return replace(provenance, settings=settings)

    def _with(self, earlier: dict[str, float]) -> Selection:
        joined = dict(earlier)
        if self.filter_rate is not None:  # of what an earlier one has left
            before = earlier.get("filter_rate", 0.0)
            joined["filter_rate"] = 1 - (1 - self.filter_rate) * (1 - before)
            if joined["filter_rate"] > LARGEST_RATE:
                most = math.floor(1000 * (1 - (1 - LARGEST_RATE) / (1 - before))) / 1000
                raise TableError(
                    f"--filter-rate {self.filter_rate:g} of a table that was filtered by {before:g} before leaves out "
                    f"{100 * joined['filter_rate']:.3g} %, expected {100 * LARGEST_RATE:g} % at most; give {most:g} or less, or the unfiltered table"
                )
        for name, value in self.to_json().items():
            if name != "filter_rate":
                sharper = min if name.startswith("max") else max
                joined[name] = sharper(value, earlier.get(name, value))
        return Selection(**joined)

    def of(self, table: Localizations) -> Localizations:
        """Take the rows that fulfil the conditions, and say so in the table's provenance."""
        kept = self.keep(table)
        return self.within(kept, self.limit(lambda: (kept,))).with_provenance(**vars(self.noted(table.provenance)))


def _earlier(noted: Any) -> dict[str, float]:
    """Take what an earlier selection says of itself; tables come from elsewhere too, and what is impossible is left out."""
    found: dict[str, float] = {}
    for name, value in noted.items() if isinstance(noted, dict) else ():
        if name in Selection.__dataclass_fields__ and isinstance(value, (int, float)) and not isinstance(value, bool):
            with suppress(TableError):
                found |= Selection(**{name: value}).to_json()
    return found


def expected_error_nm(table: Localizations) -> np.ndarray:
    """Give the expected distance of each row from the truth, (n,) float32: the root of the summed squares of sigma in x, y and, where known, z.

    Raises:
        TableError: the table has no sigmas.
    """
    if not len(table):
        return np.empty(0, np.float32)
    known = [_column(table, "sigma_x_nm", "filter-rate")]
    known += [table.columns[name] for name in ("sigma_y_nm", "sigma_z_nm") if name in table]
    return np.sqrt(np.sum([sigma.astype(np.float64) ** 2 for sigma in known], axis=0)).astype(np.float32)


def error_limit_nm(parts: Callable[[], Iterable[Localizations]], rate: float) -> float:
    """Give the expected error that all but a share of the rows keep to, exactly, in two passes and 1 MB.

    The bits of float32 above zero rise with their value: the rows are counted by the upper 16 bits, then those of the bin that holds the limit
    by the lower 16.

    Args:
        parts: gives the parts of the table anew at each call; all errors are finite.
        rate: share that is to lie above; infinity is given where that is not one row.
    """
    upper = _counted(parts, lambda bits: bits >> 16)
    n = int(upper.sum())
    kept = n - math.floor(rate * n + 1e-9)
    if kept == n:
        return math.inf
    first = int(np.searchsorted(upper.cumsum(), kept))
    lower = _counted(parts, lambda bits: bits[bits >> 16 == first] & 0xFFFF)
    second = int(np.searchsorted(lower.cumsum(), kept - upper[:first].sum()))
    return float(np.array([first << 16 | second], np.uint32).view(np.float32)[0])


def _counted(parts: Callable[[], Iterable[Localizations]], digits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    counts = np.zeros(1 << 16, np.int64)
    for part in parts():
        if len(part):
            counts += np.bincount(digits(expected_error_nm(part).view(np.uint32)), minlength=1 << 16)
    return counts


def _column(table: Localizations, name: str, option: str) -> np.ndarray:
    if name not in table:
        raise TableError(
            f"the table has no column {name}, which --{option} needs; it has {', '.join(table.columns)}: leave --{option} out"
        )
    return table.columns[name]
