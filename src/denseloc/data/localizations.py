"""Localizations: estimates of emitters, with what is known of where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..units import PixelSize
from .columns import COLUMNS

if TYPE_CHECKING:
    import pandas

REQUIRED = ("frame", "x_nm", "y_nm")
LEFT_OUT = "left out of this file"
"""What stands in a document in place of an array that a format has no place for."""


@dataclass(frozen=True)
class Provenance:
    """Where a table came from: all that a reader needs to use it elsewhere. Unknown entries are None.

    Args:
        pixel_size_nm: (y, x) of the camera pixels.
        shape_px: (rows, columns) of the whole camera field that the positions refer to.
        n_frames: number of frames of the whole movie.
        movie: name of the movie.
        method: what localized it.
        experiment: the document of the model, as plain JSON values.
        settings: how it was run, as plain JSON values.
    """

    pixel_size_nm: PixelSize | None = None
    shape_px: tuple[int, int] | None = None
    n_frames: int | None = None
    movie: str | None = None
    method: str | None = None
    experiment: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Localizations:
    """Struct of arrays: ``columns[name]`` is a numpy array of length n; names and units are those of `columns.COLUMNS`.

    ``frame``, ``x_nm`` and ``y_nm`` are always there; a column that is not known is absent, never filled. Columns read as attributes:
    ``table.x_nm``. Names outside the dictionary are refused.
    """

    columns: Mapping[str, np.ndarray]
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        missing = [name for name in REQUIRED if name not in self.columns]
        if missing:
            raise ValueError(f"Localizations need the columns {', '.join(missing)}")
        unknown = [name for name in self.columns if name not in COLUMNS]
        if unknown:
            raise ValueError(f"unknown columns of Localizations: {', '.join(unknown)}")
        typed = {name: np.ascontiguousarray(values, dtype=COLUMNS[name].dtype) for name, values in self.columns.items()}
        if len({len(v) for v in typed.values()}) > 1:
            raise ValueError("all columns of Localizations must have one length")
        object.__setattr__(self, "columns", {name: typed[name] for name in COLUMNS if name in typed})

    def __getattr__(self, name: str) -> np.ndarray:
        if name in COLUMNS and name in self.columns:
            return self.columns[name]
        raise AttributeError(f"no column '{name}'; this table has {', '.join(self.__dict__.get('columns', ()))}")

    def __len__(self) -> int:
        return len(self.columns["frame"])

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @property
    def is_3d(self) -> bool:
        """Whether the table knows z."""
        return "z_nm" in self.columns

    def select(self, keep: np.ndarray) -> Localizations:
        """Take the rows of a mask or of an index."""
        return replace(self, columns={name: values[keep] for name, values in self.columns.items()})

    def sort(self) -> Localizations:
        """Order the rows by frame, then y, then x, so that equal contents give equal tables."""
        return self.select(np.lexsort((self.x_nm, self.y_nm, self.frame)))

    def with_columns(self, **columns: np.ndarray) -> Localizations:
        """Add or replace columns."""
        return replace(self, columns={**self.columns, **columns})

    def with_provenance(self, **entries: Any) -> Localizations:
        """Replace entries of the provenance."""
        return replace(self, provenance=replace(self.provenance, **entries))

    def shifted(self, dx_nm: float = 0.0, dy_nm: float = 0.0, dz_nm: float = 0.0) -> Localizations:
        """Move all localizations by a constant."""
        moved = {"x_nm": self.x_nm + dx_nm, "y_nm": self.y_nm + dy_nm}
        if self.is_3d:
            moved["z_nm"] = self.z_nm + dz_nm
        return self.with_columns(**moved)

    @staticmethod
    def empty(names: Sequence[str] = REQUIRED, provenance: Provenance | None = None) -> Localizations:
        """Make a table without rows."""
        return Localizations({name: np.empty(0, COLUMNS[name].dtype) for name in names}, provenance or Provenance())

    @staticmethod
    def concat(parts: Sequence[Localizations]) -> Localizations:
        """Join tables; only columns that all parts have are kept, the provenance is the first one's."""
        names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
        return Localizations({n: np.concatenate([p.columns[n] for p in parts]) for n in names}, parts[0].provenance)

    def to_pandas(self) -> pandas.DataFrame:
        """Give the rows as a pandas table (needs pandas)."""
        import pandas

        return pandas.DataFrame(dict(self.columns))
