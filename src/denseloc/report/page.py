"""The page: gathers numbers, plates and words and writes them as one HTML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..data import CONVENTIONS, Image, Localizations, Movie
from ..description import Range
from ..files import check_writable
from ..suitability import Suitability
from . import plots, views
from .colours import colour_plates, numbers_of_channels
from .plates import Plate
from .rendering import rendered, write_page
from .samples import Agreement, FrameSample, compare_all
from .suitability import HEADLINES, rows
from .summary import (
    MAX_ROWS,
    QUANTILES,
    counts_per_frame,
    finite,
    frame_range,
    lateral_sigma_nm,
    local_density_per_um2,
    number,
    pixel_size,
    summarize_columns,
    thin,
)
from .uncertainty import coverage_plate

SHOWN_FRAMES = 3
LONG_TEXT = 160
LONG_LIST = 40

WORDS = {
    "origin": "origin of positions",
    "frame_base": "frames count from",
    "axis_order": "axes",
    "length_unit": "lengths in",
    "z_sign": "sign of z",
}


def write_report(
    path: str | Path,
    *,
    table: Localizations,
    image: Image,
    movie: Movie | None,
    sample: Sequence[FrameSample],
    warnings: Sequence[str],
    run: Mapping[str, str],
    title: str,
    ranges: Mapping[str, Range] | None = None,
    untrained: bool = False,
    suits: Suitability | None = None,
) -> None:
    """Write the report of a run as one HTML file without scripts that needs no network.

    Args:
        path: the file to write; it appears only when it is whole.
        table: the localizations; with more than `MAX_ROWS` rows the histograms use that many random ones.
        image: the super-resolved picture.
        movie: the movie, None if it is not at hand.
        sample: raw frames with the model's picture of them; may be empty.
        warnings: what `judge` found, worst first.
        run: what was run, in the order to show: command, model, camera, versions, time, ...
        title: heading of the page.
        ranges: what the model was trained on, (low, high) by name as in `judge`; drawn behind the histograms.
        untrained: the method was not trained, so that there are no such ranges.
        suits: what a check of some frames before the run has found, None if there was none.

    Raises:
        OutputError: the file cannot be written there.
    """
    check_writable(path)
    few = thin(table)
    agreements = compare_all(sample)
    context = {
        "title": title,
        "version": __version__,
        "verdict": _verdict(table, warnings, bool(agreements), suits),
        "tone": "warn" if warnings or not len(table) else "good" if agreements else "unsure",
        "warnings": list(warnings),
        "notes": [
            *([] if agreements else [_not_compared(table, movie, suits)]),
            *_notes(table, few, agreements, bool(ranges) or untrained),
        ],
        "facts": _facts(table, few, movie, agreements),
        "run": _run(run, table, movie),
        "picture": views.picture(image, len(table)),
        "overlays": _overlays(table, sample, movie),
        "trained": plots.shows_ranges(few, ranges or {}),
        "plots": _plots(table, few, movie, sample, ranges or {}),
        "agreements": agreements,
        "suits": None if suits is None else (HEADLINES[suits.verdict], rows(suits)),
        "panels": _panels(sample, agreements),
        "residuals": plots.residual_histogram(agreements) if agreements else None,
        "quantiles": [f"{100 * q:.0f} %" if q != 0.5 else "median" for q in QUANTILES],
        "columns": summarize_columns(few),
        "conventions": {WORDS.get(key, key): str(value) for key, value in CONVENTIONS.items()},
        "experiment": document(table.provenance.experiment),
        "untrained": untrained,
        "settings": document(table.provenance.settings),
    }
    write_page(path, rendered("template.html", context))


def _verdict(table: Localizations, warnings: Sequence[str], compared: bool, suits: Suitability | None) -> str:
    if len(table) == 0:
        return "The table is empty"
    if not warnings:
        where = (
            ""
            if compared
            else ", as far as the table and a few frames show"
            if suits
            else ", but the model was not compared with the movie"
        )
        return f"Nothing suspicious was found{where}"
    return (
        "One thing to look at before you use this table"
        if len(warnings) == 1
        else f"{len(warnings)} things to look at before you use this table"
    )


def _notes(table: Localizations, few: Localizations, agreements: Sequence[Agreement], limits_known: bool) -> list[str]:
    """Say what could not be looked at, and what was looked at in part."""
    notes = []
    if any(a.photon_noise_only for a in agreements):
        notes.append("The camera's variance was not given; residuals are measured against photon noise alone.")
    if not limits_known:
        judged = "photons" in table or table.is_3d
        rest = "limits are judged from the table alone" if judged else "the table was not compared with them"
        notes.append(f"The ranges that the model was trained on were not given; {rest}.")
    if len(table) and not table.is_3d:
        notes.append("This is a two-dimensional table: there is no z.")
    if len(table) and not len(lateral_sigma_nm(few)):
        notes.append("The table has no uncertainties (sigma).")
    if len(few) < len(table):
        notes.append(
            f"Histograms and quantiles use {number(len(few))} random rows of {number(len(table))} (at most {number(MAX_ROWS)})."
        )
    return notes


def _not_compared(table: Localizations, movie: Movie | None, suits: Suitability | None) -> str:
    """Say that localizations and raw frames were not compared, why, and what is known nevertheless."""
    reasons = ["the movie is not at hand"] if movie is None else []
    if len(table) and "photons" not in table:
        reasons.append("the table tells no photons, of which a picture of them could be made")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    rest = "this page cannot say whether the model describes the movie"
    if suits is not None:
        rest = "whether the model suits the movie is known from the check of a few frames alone, see below"
    return f"The localizations were not compared with raw frames{why}: {rest}."


def _facts(
    table: Localizations, few: Localizations, movie: Movie | None, agreements: Sequence[Agreement]
) -> list[tuple[str, str, str]]:
    """Give the main numbers as (value, unit, what it is)."""
    frames = frame_range(table, movie)
    n_frames = frames[1] - frames[0]
    facts = [(number(len(table)), "", "localizations")]
    if n_frames > 0:
        facts += [(number(n_frames), "", "frames"), (number(len(table) / n_frames), "", "per frame")]
    density = local_density_per_um2(table)
    if density is not None:
        facts.append((number(density), "/µm²", "density around a localization"))
    for values, unit, what in (
        (finite(few, "photons"), "", "photons (median)"),
        (lateral_sigma_nm(few), "nm", "lateral sigma (median)"),
        (finite(few, "sigma_z_nm"), "nm", "axial sigma (median)"),
    ):
        if len(values):
            facts.append((number(float(np.median(values))), unit, what))
    facts += [(number(n), "", f"in channel {channel}") for channel, n in numbers_of_channels(table).items()]
    if agreements:
        facts.append((f"{np.median([a.chi2 for a in agreements]):.2f}", "", "chi2 per pixel (1 is ideal)"))
    return facts


def _run(run: Mapping[str, str], table: Localizations, movie: Movie | None) -> dict[str, str]:
    """Give what was run; what the caller did not say is added from the movie and the table."""
    lines = {str(key): str(value) for key, value in run.items()}
    known = {key.lower() for key in lines}
    extra = {"movie": table.provenance.movie, "method": table.provenance.method}
    size = pixel_size(table, movie)
    if movie is not None:
        y0, x0, height, width = movie.roi_px
        extra["movie"] = movie.name
        extra["frames"] = f"{movie.frames[0]} to {movie.frames[1] - 1}"
        extra["field"] = f"{width} × {height} pixels from column {x0}, row {y0}, of {movie.field_px[1]} × {movie.field_px[0]}"
    if size is not None:
        extra["pixel size"] = f"{size[1]:g} nm" if size[0] == size[1] else f"{size[1]:g} nm (x), {size[0]:g} nm (y)"
    return lines | {key: str(value) for key, value in extra.items() if value is not None and key not in known}


def _overlays(table: Localizations, sample: Sequence[FrameSample], movie: Movie | None) -> list[Plate]:
    unit = "photons" if sample else "counts"
    shown = views.frames_to_show(sample, movie, SHOWN_FRAMES)
    if not shown:
        return []
    factor = views.enlargement(table.select(np.isin(table.frame, [frame.frame for frame in shown])), shown[0].pixel_size_nm[1])
    return [views.overlay(frame, table, unit, factor) for frame in shown]


def _plots(
    table: Localizations, few: Localizations, movie: Movie | None, sample: Sequence[FrameSample], ranges: Mapping[str, Range]
) -> list[Plate]:
    if len(table) == 0:
        return []
    frames = frame_range(table, movie)
    plates = plots.histograms(few, ranges)
    believed = coverage_plate(table.provenance.settings, table.columns)
    if believed is not None:
        plates.append(believed)
    plates += colour_plates(few, table.provenance.settings)
    if frames[1] > frames[0]:
        plates.append(plots.counts_over_time(counts_per_frame(table, frames), frames[0]))
    size = pixel_size(table, movie, sample)
    if size is not None:
        plates += [plots.subpixel_curve(few, size), plots.subpixel_map(few, size)]
    return plates


def _panels(sample: Sequence[FrameSample], agreements: Sequence[Agreement]) -> list[tuple[Agreement, list[Plate]]]:
    """Draw data, model and residual of the frames that are shown."""
    by_frame = {agreement.frame: agreement for agreement in agreements}
    compared = [frame for frame in sample if frame.frame in by_frame]
    shown = views.frames_to_show(compared, None, SHOWN_FRAMES)
    return [(by_frame[frame.frame], views.triptych(frame, by_frame[frame.frame])) for frame in shown]


def document(values: Mapping[str, Any] | None) -> str:
    """Write a document as indented JSON, with long texts and lists (packed arrays) cut short."""
    return json.dumps(_shortened(values), indent=2, ensure_ascii=False, default=str) if values else ""


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _shortened(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        cut = [_shortened(inner) for inner in value[:LONG_LIST]]
        return cut if len(value) <= LONG_LIST else [*cut, f"… {len(value) - LONG_LIST} more"]
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return f"{value[:40]}… ({len(value)} characters)"
    return value
