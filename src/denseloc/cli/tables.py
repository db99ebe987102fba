"""The commands for a table that is there: render, report, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from . import options
from .words import caution, note, number, pair, say

if TYPE_CHECKING:
    from ..data import Localizations
    from ..render.draw import Colour, Mode
    from ..selection import Selection

MODES: tuple[Mode, ...] = ("gaussian", "histogram")
COLOURS: tuple[Colour, ...] = ("z", "none")
Word = TypeVar("Word", bound=str)

RENDER_EXAMPLES = (
    "denseloc render table.parquet -o picture.png",
    "denseloc render table.csv -o values.tif --pixel-size-nm 5 --mode histogram",
    "denseloc render table.parquet -o depth.png --colour z --z-range=-400,400",
    "denseloc render sum.tif -o sum.png --colormap inferno",
    "denseloc render table.parquet -o sure.png --min-probability 0.9 --max-sigma-nm 20 --min-photons 500",
)


def render(
    table: options.Drawn,
    out: options.PictureOut,
    pixel_size_nm: options.PicturePixel = None,
    mode: options.Mode = "gaussian",
    sigma_nm: options.SigmaNm = None,
    colour: options.Colour = None,
    z_range: options.ZRange = None,
    field_nm: options.FieldNm = None,
    colormap: options.Colormap = "hot",
    no_scale_bar: options.NoScaleBar = False,
    min_probability: options.MinProbability = None,
    max_sigma_nm: options.MaxSigmaNm = None,
    min_photons: options.MinPhotons = None,
    filter_rate: options.FilterRate = None,
) -> None:
    """Draw a table, or an image that a method gave itself, as a super-resolved picture."""
    wanted_mode = _one_of("--mode", mode, MODES)
    wanted_colour = None if colour is None else _one_of("--colour", colour, COLOURS)
    from .. import verbs
    from ..selection import Selection

    rows = _selected(table, Selection(min_probability, max_sigma_nm, min_photons, filter_rate))
    image = verbs.render(
        rows,
        out,
        pixel_size_nm=pixel_size_nm,
        mode=wanted_mode,
        sigma_nm=sigma_nm,
        colour=wanted_colour,
        z_range_nm=pair(z_range, "--z-range", "low,high in nm"),
        field_nm=pair(field_nm, "--field-nm", "height,width in nm"),
        scale_bar=not no_scale_bar,
        colormap=colormap,
    )
    height, width = image.pixels.shape[:2]
    _told(rows)
    say(f"picture  {out}   {width} x {height} pixels of {image.pixel_size_nm[1]:g} nm")


def _one_of(option: str, value: str, known: tuple[Word, ...]) -> Word:
    """Give the known word that an option says.

    Raises:
        BadParameter: it says another one.
    """
    for word in known:
        if word == value:
            return word
    raise typer.BadParameter(f"found '{value}', expected {' or '.join(known)}", param_hint=option)


REPORT_EXAMPLES = (
    "denseloc report table.parquet -o report.html",
    "denseloc report table.parquet movie.tif -o report.html",
)


def report(
    table: options.Table,
    movie: options.ReportMovie = None,
    out: options.PageOut = None,
    title: options.Title = None,
    min_probability: options.MinProbability = None,
    max_sigma_nm: options.MaxSigmaNm = None,
    min_photons: options.MinPhotons = None,
    filter_rate: options.FilterRate = None,
) -> None:
    """Write the report of a table: one HTML file that opens without network."""
    from .. import verbs
    from ..selection import Selection

    rows = _selected(table, Selection(min_probability, max_sigma_nm, min_photons, filter_rate))
    found = verbs.report(rows, out or table.with_suffix(".html"), movie=movie or _beside(table, rows), title=title)
    _told(rows)
    say(f"report   {found.page}")
    for line in found.notes:
        note(line)
    for line in found.warnings:
        caution(line)


def _beside(table: Path, rows: Path | Localizations) -> Path | None:
    """Find the movie of a selection beside its table, where it is not where the table says."""
    if isinstance(rows, Path) or rows.provenance.movie is None:
        return None
    named = Path(rows.provenance.movie)
    places = [named, table.parent / named, table.parent / named.name]
    return next((place for place in places if place.exists()), None)


EVALUATE_EXAMPLES = (
    "denseloc evaluate table.parquet truth.csv",
    "denseloc evaluate table.csv truth.csv --remove-offset",
    "denseloc evaluate table.csv truth.csv --wobble wobble.csv --json",
)


def evaluate(
    table: options.Table,
    truth: options.Truth,
    as_json: options.AsJson = False,
    wobble: options.Wobble = None,
    remove_offset: options.RemoveOffset = False,
    whole: options.Whole = False,
    field_nm: options.FieldNm = None,
    border_nm: options.BorderNm = 450.0,
    lateral_nm: options.LateralNm = 250.0,
    axial_nm: options.AxialNm = 500.0,
    min_probability: options.MinProbability = None,
    max_sigma_nm: options.MaxSigmaNm = None,
    min_photons: options.MinPhotons = None,
    filter_rate: options.FilterRate = None,
) -> None:
    """Compare a table with the truth by the rule of the SMLM challenge.

    Of a table that says which frames and region were localized, the truth elsewhere does not count.
    """
    from .. import verbs
    from ..evaluate import describe
    from ..selection import Selection
    from ..verbs.assessment import Part, offset_between, opened

    rows = _selected(table, Selection(min_probability, max_sigma_nm, min_photons, filter_rate))
    found, true = opened(rows), opened(truth)
    settings: dict[str, Any] = {
        "field_nm": pair(field_nm, "--field-nm", "height,width in nm"),
        "border_nm": border_nm,
        "lateral_nm": lateral_nm,
        "axial_nm": axial_nm,
    }
    assessments = verbs.evaluate(found, true, wobble=wobble, remove_offset=remove_offset, whole=whole, **settings)
    part = Part() if whole else Part.of(found)
    kept = part.of_truth(true)
    left_out = len(true) - len(kept)
    if as_json:
        values = {key: one.to_json() for key, one in assessments.items()}
        values |= {"localized": part.to_json(left_out)} if left_out else {}
        typer.echo(json.dumps(values, indent=1, allow_nan=False))
        return
    _told(rows)
    if left_out:
        note(f"localized were {part.in_words()}; {number(left_out)} true emitters elsewhere are left out (--whole counts them)")
    if remove_offset:
        offset = offset_between(found, kept)
        say(
            f"offset taken away: x {offset.dx_nm:.1f} nm, y {offset.dy_nm:.1f} nm, z {offset.dz_nm:.1f} nm ({number(offset.n_pairs)} pairs)"
        )
    typer.echo(describe(assessments))


def _selected(table: Path, selection: Selection) -> Path | Localizations:
    """Give the rows of a table's file that are wanted, read part by part; the file itself where all are."""
    if not selection:
        return table
    from ..data import Localizations
    from ..formats import iter_table

    kept = [selection.keep(part) for part in iter_table(table)]
    joined = Localizations.concat(list(selection.whole(lambda: kept)))
    return joined.with_provenance(**vars(selection.noted(joined.provenance)))


def _told(found: Path | Localizations) -> None:
    """Say how many rows a selection has left."""
    if not isinstance(found, Path):
        say(f"kept     {number(len(found))} localizations ({found.provenance.settings['assumed'][-1].removeprefix('kept: ')})")
