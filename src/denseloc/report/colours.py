"""Colours of a table: how many in each channel, how sure of it, and what the model mistakes on simulations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data import Localizations
from ..evaluate.colours import ColourConfusion, in_words
from .plates import BLUE, FAINT, INK, ORANGE, Plate, canvas, plate_of_figure
from .plots import LEGEND
from .summary import number

COLOURS = (BLUE, ORANGE, "#4b8b3b", FAINT)
MOST_SHOWN = 8
"""Channels of which numbers are told; a table of another program may number its rows so."""


def numbers_of_channels(table: Localizations) -> dict[int, int]:
    """Count the rows of each channel; nothing where the table tells none, or one only."""
    if "channel" not in table:
        return {}
    channels, counts = np.unique(table.channel, return_counts=True)
    known = {int(channel): int(count) for channel, count in zip(channels, counts, strict=True)}
    return known if len(known) <= MOST_SHOWN and (len(known) > 1 or "channel_probability" in table) else {}


def colour_plates(table: Localizations, settings: Mapping[str, Any] | None) -> list[Plate]:
    """Draw how sure the colours are, and who is taken for whom on simulated frames where the table's model knows it.

    Args:
        table: the localizations.
        settings: of the table's provenance; ``uncertainty`` there is what the model says of itself.
    """
    plates = []
    if numbers_of_channels(table) and "channel_probability" in table:
        plates.append(_confidence(table))
    known = (settings or {}).get("uncertainty")
    confusion = ColourConfusion.from_json(known.get("colours")) if isinstance(known, Mapping) else None
    if confusion is not None and confusion.n:
        plates.append(_confusion(confusion))
    return plates


def _confidence(table: Localizations) -> Plate:
    """Draw the stated probabilities of the channels, one histogram a channel."""
    figure, axes = canvas()
    words = []
    edges = np.linspace(0, 1, 51)
    for (channel, count), colour in zip(numbers_of_channels(table).items(), COLOURS * 2, strict=False):
        values = table.channel_probability[table.channel == channel]
        values = values[np.isfinite(values)]
        sure = 100 * float(np.mean(values > 0.9)) if len(values) else 0.0
        axes.stairs(
            np.histogram(values, edges)[0], edges, color=colour, linewidth=1.4, label=f"channel {channel}: {sure:.0f} % above 0.9"
        )
        words.append(f"channel {channel} has {number(count)} localizations, {sure:.0f} % of them with a probability above 0.9")
    axes.set(xlim=(0, 1), xlabel="probability of the stated colour", ylabel="localizations")
    axes.legend(**LEGEND, loc="upper left")
    return plate_of_figure(
        figure,
        "Colours",
        f"Histogram of the probability of the stated colour: {'; '.join(words)}.",
        "How sure the localizer is of each colour; leave out unsure rows where colours must not mix.",
    )


def _confusion(found: ColourConfusion) -> Plate:
    """Draw the matrix of true and found channels, in shares of the true ones."""
    counts = np.array(found.counts, float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = canvas()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(column, row, f"{100 * share:.1f} %", ha="center", va="center", fontsize=9, color="white" if share > 0.5 else INK)
    axes.set(xlabel="found channel", ylabel="true channel", xticks=range(len(counts)), yticks=range(len(counts)))
    rows = "; ".join(
        f"of channel {i} {100 * share:.1f} % are found as such"
        for i, share in enumerate(found.right_of_channel)
        if np.isfinite(share)
    )
    return plate_of_figure(
        figure,
        "Who is taken for whom",
        f"True against found colour channels on simulated frames: {rows}.",
        f"On simulated frames of the model's own experiment {in_words(found)}. For this movie it holds as far as the document describes it.",
    )
