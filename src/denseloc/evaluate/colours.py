"""Whether colours are told right: who is taken for whom, and whether the stated probabilities are the true ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Localizations
from .coverage import Reliability, reliability
from .matching import Pairs

CONFIDENCES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
MOST_CHANNELS = 64


@dataclass(frozen=True)
class ColourConfusion:
    """Pairs of emitters and localizations by their colour channels.

    Args:
        counts: (true channel, found channel) numbers of pairs.
        confidence: localizations of similar stated probability of their channel, rising, with the share that is right; empty where the table
            states none.
    """

    counts: tuple[tuple[int, ...], ...]
    confidence: tuple[Reliability, ...] = ()

    @property
    def n(self) -> int:
        """Number of pairs."""
        return sum(map(sum, self.counts))

    @property
    def right(self) -> float:
        """Share of the pairs whose channel is right, 0 .. 1; NaN without pairs."""
        return sum(row[i] for i, row in enumerate(self.counts)) / self.n if self.n else math.nan

    @property
    def right_of_channel(self) -> tuple[float, ...]:
        """Share that is right of the emitters of each channel; NaN where there are none."""
        return tuple(row[i] / sum(row) if sum(row) else math.nan for i, row in enumerate(self.counts))

    @property
    def confidence_error(self) -> float:
        """Mean distance of stated probability and right share over the localizations; NaN without any."""
        n = sum(step.n for step in self.confidence)
        return sum(step.n * abs(step.stated - step.actual) for step in self.confidence) / n if n else math.nan

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values, None where a number is undefined."""
        return {
            "counts": [list(row) for row in self.counts],
            "right": _plain(self.right),
            "right_of_channel": [_plain(share) for share in self.right_of_channel],
            "confidence_error": _plain(self.confidence_error),
            "confidence": [{"n": s.n, "stated": _plain(s.stated), "actual": _plain(s.actual)} for s in self.confidence],
        }

    @staticmethod
    def from_json(values: Any) -> ColourConfusion | None:
        """Read what `to_json` gave; None for what is none, as tables of others may hold."""
        counts = values.get("counts") if isinstance(values, Mapping) else None
        if not isinstance(counts, list) or not 2 <= len(counts) <= MOST_CHANNELS:
            return None
        if not all(
            isinstance(row, list) and len(row) == len(counts) and all(type(n) is int and n >= 0 for n in row) for row in counts
        ):
            return None
        return ColourConfusion(tuple(tuple(row) for row in counts))


def colour_confusion(table: Localizations, truth: Localizations, pairs: Pairs) -> ColourConfusion | None:
    """Count who is taken for whom.

    Args:
        table: the localizations.
        truth: the emitters.
        pairs: which belongs to which, as `match` gives them.

    Returns:
        None where one of the tables tells no channels, or channels that cannot be counted from 0.
    """
    if "channel" not in table or "channel" not in truth:
        return None
    found, true = table.channel[pairs.table], truth.channel[pairs.truth]
    every = np.concatenate([table.channel, truth.channel])
    if not len(every) or every.min() < 0 or every.max() >= MOST_CHANNELS:
        return None
    n = max(2, int(every.max()) + 1)
    counts = np.bincount(true * n + found, minlength=n * n).reshape(n, n)
    stated = table.channel_probability[pairs.table] if "channel_probability" in table else np.zeros(0)
    confidence = reliability(stated, found == true, CONFIDENCES) if len(stated) else ()
    return ColourConfusion(tuple(tuple(int(v) for v in row) for row in counts), confidence)


def describe_colours(found: ColourConfusion, names: Sequence[str] | None = None) -> str:
    """Write the matrix as plain text: a line for each true channel, a column for each found one, and the share that is right."""
    names = names or [f"channel {i}" for i in range(len(found.counts))]
    rows = [["true \\ found", *names, "right / %"]]
    for name, row, share in zip(names, found.counts, found.right_of_channel, strict=True):
        rows.append([name, *map(str, row), f"{100 * share:.1f}" if math.isfinite(share) else "-"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]) for row in rows]
    return "\n".join([*lines, in_words(found)])


def in_words(found: ColourConfusion) -> str:
    """Say the shares in one line."""
    if not found.n:
        return "no pair of emitter and localization, so that nothing is known of the colours"
    said = f"{100 * found.right:.1f} % of {found.n} pairs have the right channel"
    if not found.confidence:
        return said
    return f"{said}; stated probabilities are off by {100 * found.confidence_error:.1f} % on average"


def _plain(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
