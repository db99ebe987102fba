"""How well a localizer does on held-out simulated windows, by the rule of the SMLM challenge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data import Emitters, Localizations
from ..evaluate.matching import match
from ..localize import Batch, TrainableLocalizer


@dataclass(frozen=True)
class Score:
    """Jaccard in percent, RMSE in nm (axial None without depth), efficiency as in the SMLM challenge.

    With several colours also the percentage of found emitters whose colour channel is right, None without.
    """

    jaccard: float
    rmse_lateral_nm: float
    rmse_axial_nm: float | None
    efficiency: float
    right_channel: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Give plain rounded values."""
        axial = None if self.rmse_axial_nm is None else round(self.rmse_axial_nm, 2)
        values = {
            "jaccard": round(self.jaccard, 2),
            "rmse_lateral_nm": round(self.rmse_lateral_nm, 2),
            "rmse_axial_nm": axial,
            "efficiency": round(self.efficiency, 2),
        }
        return values if self.right_channel is None else {**values, "right_channel": round(self.right_channel, 2)}


def as_table(emitters: Emitters) -> Localizations:
    """Give true emitters as a table that metrics can read."""
    e = emitters.to("cpu")
    names = ("frame", "x_nm", "y_nm", "z_nm", "photons", "channel")
    columns = {name: getattr(e, name) for name in names}
    return Localizations({name: np.asarray(values) for name, values in columns.items()})


@torch.no_grad()
def score(localizer: TrainableLocalizer, batches: Sequence[Batch]) -> Score:
    """Localize the inner frames of batches and compare with the truth: in 3D where there is depth and the localizer tells it, else in 2D."""
    pairs = found = true = right = 0
    squares = np.zeros(2)
    tables = [localizer.localize_batch(batch) for batch in batches]
    telling = [table for table in tables if len(table)] or tables
    three = localizer.scales.z_unit_nm > 0 and all(table.is_3d for table in telling)
    for table, batch in zip(tables, batches, strict=True):
        if not len(table):  # it may have no columns to match by
            true += len(batch.emitters)
            continue
        truth = as_table(batch.emitters)
        matched = match(table, truth, dimensions=3 if three else 2)
        dx, dy = (matched.difference(name, table, truth) for name in ("x_nm", "y_nm"))
        squares[0] += (dx**2 + dy**2).sum()
        if three:
            squares[1] += (matched.difference("z_nm", table, truth) ** 2).sum()
        pairs, found, true = pairs + len(matched), found + len(table), true + len(truth)
        right += int((table.channel[matched.table] == truth.channel[matched.truth]).sum()) if "channel" in table else 0
    jaccard = 100 * pairs / max(1, found + true - pairs)
    lateral, axial = np.sqrt(squares / pairs) if pairs else (250.0, 500.0)
    parts = [lateral, 0.5 * axial] if three else [lateral]
    efficiency = float(np.mean([100 - np.hypot(100 - jaccard, part) for part in parts]))
    right_channel = 100 * right / max(1, pairs) if localizer.scales.channels > 1 else None
    return Score(jaccard, float(lateral), float(axial) if three else None, efficiency, right_channel)
