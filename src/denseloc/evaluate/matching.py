"""Which localization belongs to which emitter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import Localizations
from ..errors import TableError
from ..kernels.pair import pair

LATERAL_NM = 250.0
AXIAL_NM = 500.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """Localizations that belong to emitters.

    Args:
        table: (n,) rows of the localizations.
        truth: (n,) rows of the truth, rising.
    """

    table: np.ndarray
    truth: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    def difference(self, name: str, table: Localizations, truth: Localizations) -> np.ndarray:
        """Subtract a column of the truth from that of the localizations over all pairs: (n,) found minus true, as float64."""
        return table.columns[name][self.table].astype(np.float64) - truth.columns[name][self.truth]


def match(
    table: Localizations,
    truth: Localizations,
    *,
    dimensions: int,
    lateral_nm: float = LATERAL_NM,
    axial_nm: float = AXIAL_NM,
) -> Pairs:
    """Pair localizations with emitters of the same frame, greedily and closest first (see `kernels.pair.naive`).

    Args:
        table: the localizations.
        truth: one row for each emitter in each frame; frames of both count from 0.
        dimensions: 3 orders pairs by the distance in x, y, z; 2 by that in x, y and ignores z.
        lateral_nm: largest distance in x, y of a pair.
        axial_nm: largest distance in z of a pair, for three dimensions.

    Raises:
        TableError: three dimensions are asked for and a table has no z.
    """
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions = {dimensions}; expected 2 or 3")
    names = ("x_nm", "y_nm", "z_nm")[:dimensions]
    for what, rows in (("localizations", table), ("truth", truth)):
        if dimensions == 3 and not rows.is_3d:
            raise TableError(f"the {what} have no column z_nm, which pairing in 3D needs; assess in 2D instead")
    rows_truth, rows_table = pair(
        truth.frame,
        np.stack([truth.columns[name] for name in names], axis=1),
        table.frame,
        np.stack([table.columns[name] for name in names], axis=1),
        lateral_nm,
        axial_nm,
    )
    return Pairs(table=rows_table, truth=rows_truth)
