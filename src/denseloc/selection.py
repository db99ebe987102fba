"""Which localizations to keep: least probability, largest sigma, least photons."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from .data import Localizations, Provenance
from .errors import TableError


@dataclass(frozen=True)
class Selection:
    """Conditions on the rows of a table; None asks for nothing. Rows whose value is not a number are left out.

    Args:
        min_probability: least probability, 0 to 1.
        max_sigma_nm: largest standard deviation in x and in y.
        min_photons: least photons.

    Raises:
        TableError: an impossible number.
    """

    min_probability: float | None = None
    max_sigma_nm: float | None = None
    min_photons: float | None = None

    def __post_init__(self) -> None:
        for name, value, holds, expected in (
            ("min-probability", self.min_probability, lambda v: 0 <= v <= 1, "a number from 0 to 1"),
            ("max-sigma-nm", self.max_sigma_nm, lambda v: v > 0, "a number of nm above 0"),
            ("min-photons", self.min_photons, lambda v: v >= 0, "a number of photons, at least 0"),
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
        )
        return ", ".join(text.format(value) for value, text in parts if value is not None)

    def keep(self, table: Localizations) -> Localizations:
        """Take the rows that fulfil the conditions; the provenance stays as it was.

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
        return table.select(kept)

    def noted(self, provenance: Provenance) -> Provenance:
        """Write the conditions into a provenance, beside what it says already; the sharper of two like ones holds."""
        if not self:
            return provenance
        both = self._with(provenance.settings.get("selection") or {})
        assumed = [line for line in provenance.settings.get("assumed", ()) if not str(line).startswith("kept: ")]
        settings = {**provenance.settings, "selection": both.to_json(), "assumed": [*assumed, f"kept: {both}"]}
        return replace(provenance, settings=settings)

    def _with(self, earlier: dict[str, float]) -> Selection:
        joined = dict(earlier)
        for name, value in self.to_json().items():
            sharper = min if name.startswith("max") else max
            joined[name] = sharper(value, earlier.get(name, value))
        return Selection(**joined)

    def of(self, table: Localizations) -> Localizations:
        """Take the rows that fulfil the conditions, and say so in the table's provenance."""
        return self.keep(table).with_provenance(**vars(self.noted(table.provenance)))


def _column(table: Localizations, name: str, option: str) -> np.ndarray:
    if name not in table:
        raise TableError(
            f"the table has no column {name}, which --{option} needs; it has {', '.join(table.columns)}: leave --{option} out"
        )
    return table.columns[name]
