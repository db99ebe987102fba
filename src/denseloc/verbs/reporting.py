"""Make the report of a table from what the table says of itself and from its movie, if that is still there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import Image, Localizations, Movie, Provenance
from ..data.localizations import LEFT_OUT
from ..description import Range
from ..errors import OutputError
from ..experiment import Experiment
from ..files import check_writable
from ..report import FrameSample, judge, write_report
from ..specimen.ranges import ends
from ..suitability import Suitability, serves_many
from ..units import PixelSize
from .assessment import opened
from .picture import render
from .samples import Exposure, reopen, sample_frames

PIXELS_UNKNOWN = (
    "The pixels of the camera differ and the table does not hold its maps, so the model was not compared with the raw frames, which are shown "
    "with one offset and gain."
)
ARRAYS_LEFT_OUT = (
    "The table's document was written without the arrays of its PSF or camera, so the model was not compared with the raw frames; write .parquet "
    "or .csv to keep them."
)


@dataclass(frozen=True)
class Report:
    """What a report found.

    Args:
        page: the HTML file.
        warnings: what to look at before the table is used, in plain words.
        notes: what could not be looked at.
    """

    page: Path
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def report(
    table: Localizations | Path | str,
    out: Path | str,
    *,
    movie: Movie | Path | str | None = None,
    image: Image | None = None,
    title: str | None = None,
) -> Report:
    """Write the report of a table as one HTML file.

    Args:
        table: the localizations, or their file.
        out: page to write, ending in .html.
        movie: the movie or its file; None takes the one that the table names. Without it the report has no raw frames, and says so.
        image: the super-resolved picture if it is at hand; else it is drawn.
        title: heading; None takes the name of the movie.

    Raises:
        TableError: the table cannot be read.
        OutputError: the page cannot be written.
    """
    out = Path(out)
    check_report(out)
    rows = opened(table)
    beside = None if isinstance(table, Localizations) else Path(table).parent
    found, note = reopen(rows, beside, movie)
    exposure = Exposure.of(rows)
    samples: list[FrameSample] = [] if found is None or exposure is None else sample_frames(rows, found, exposure)
    if found is not None and samples and all(sample.expected is None for sample in samples):
        note = PIXELS_UNKNOWN
    is_trained = exposure is not None and exposure.experiment.localizer.needs_training
    ranges = trained_ranges(exposure.experiment, rows.provenance.pixel_size_nm) if exposure is not None and is_trained else {}
    if found is not None and exposure is None and LEFT_OUT in json.dumps(rows.provenance.experiment or {}):
        note = ARRAYS_LEFT_OUT
    told = _texts(rows.provenance, "warnings")
    suits = Suitability.from_json((rows.provenance.settings or {}).get("suitability"))
    said = suits.topics if suits is not None else frozenset()
    warnings = [*told, *judge(rows, samples, ranges=ranges, movie=found, said=said)]
    notes = [note] if note else []
    write_report(
        out,
        table=rows,
        image=image if image is not None else render(rows),
        movie=found,
        sample=samples,
        warnings=warnings,
        run=_run(rows.provenance) | ({"raw frames": note} if note else {}),
        title=title or _title(rows.provenance, found),
        ranges=ranges or None,
        untrained=exposure is not None and not is_trained,
        suits=suits,
    )
    return Report(out, warnings, notes)


def check_report(out: Path | str) -> None:
    """Check, before the work, that a report can be written to ``out``.

    Raises:
        OutputError: the name does not end in .html, or the target cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"report {out.name}: expected a name that ends in .html")
    check_writable(out)


def _texts(provenance: Provenance, name: str) -> list[str]:
    """Give a list of texts of the settings; nothing where a table of another program has something else there."""
    found = (provenance.settings or {}).get(name)
    return [str(text) for text in found] if isinstance(found, (list, tuple)) else []


MARGIN = 1.2
"""Backgrounds a little outside of the range are no reason to worry: within a frame they vary anyway."""


def trained_ranges(experiment: Experiment, pixel_size_nm: PixelSize | None) -> dict[str, Range]:
    """Give (low, high) of photons, z, background and density that a model was trained on, as its document says.

    A model that serves all pixel sizes sees densities per pixel; its range is turned into that of pixels of ``pixel_size_nm``.
    """
    specimen = experiment.specimen
    ranges: dict[str, Range] = {}
    if experiment.has_depth:
        ranges["z_nm"] = specimen.z_nm
    photons = _brightest(specimen.photons)
    if photons is not None:
        ranges["photons"] = (0.0, photons)  # an emitter that is on for a part of a frame may have any lower number
    low, high = ends(specimen.background.photons)
    ranges["background"] = (low / MARGIN, high * MARGIN)
    finer = 1.0
    if pixel_size_nm is not None and serves_many(experiment):
        (y, x), (mine_y, mine_x) = pixel_size_nm, experiment.pixel_size_nm
        finer = mine_y * mine_x / (y * x)
    ranges["density_per_um2"] = (0.0, ends(specimen.density_per_um2)[1] * finer)
    return ranges


def _brightest(law: Any) -> float | None:
    """Give the photons that a law of brightness hardly exceeds; None where it has no such end."""
    if hasattr(law, "high"):
        return float(law.high) * (1 + 2 * (law.spread or 0.0))
    if hasattr(law, "relative"):
        return ends(law.photons)[1] * float(law.relative[1])
    return None


def _title(provenance: Provenance, movie: Movie | None) -> str:
    name = movie.name if movie is not None else Path(provenance.movie).name if provenance.movie else ""
    return f"Localizations of {name}" if name else "Localizations"


def _run(provenance: Provenance) -> dict[str, str]:
    """Give what was run, line by line: what the table says of itself."""
    settings: Mapping[str, Any] = provenance.settings or {}
    lines = {"movie": provenance.movie, "method": provenance.method}
    if isinstance(settings.get("threshold"), (int, float)):
        lines["least probability"] = f"{settings['threshold']:g}"
    notes = []
    for line in _texts(provenance, "assumed"):
        name, colon, value = line.partition(": ")
        if name.startswith("if you"):
            continue  # advice for the next run
        if colon and name != "note":
            lines[name] = value
        else:
            notes.append(value or name)
    if notes:
        lines["notes"] = "; ".join(notes)
    if settings.get("denseloc"):
        lines["denseloc"] = str(settings["denseloc"])
    return {name: str(value) for name, value in lines.items() if value is not None}
