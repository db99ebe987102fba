"""The analysis stair: localize, render, report, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import DenselocError, Interrupted
from . import options
from .screen import Rate, Screen, clock
from .signals import ended, orderly_stop
from .words import caution, duration, frame_range, note, number, pair, pairs, pixel_size, region, say

if TYPE_CHECKING:
    from ..blocks import Progress
    from ..data import Localizations
    from ..model_file import Model
    from ..pipeline import Run
    from ..preparation import Preparation
    from ..selection import Selection
    from ..verbs import Refinement

LOCALIZE_EXAMPLES = (
    "denseloc localize movie.tif -o table.parquet --pixel-size-nm 100",
    "denseloc localize movie.tif -o table.csv --camera camera.toml",
    "denseloc localize run7/ -o table.hdf5 --frames 0:5000 --roi 64,64,128,128",
    "denseloc localize movie.tif -o table.parquet --model mine.safetensors",
    "denseloc localize movie.tif -o table.parquet --method single --psf psf.h5",
    "denseloc localize movie.tif -o table.parquet --model mine.safetensors --refine",
    "denseloc localize movie.tif -o table.parquet --min-probability 0.7 --max-sigma-nm 30",
    "denseloc localize movie.tif -o table.parquet --model deep.safetensors --image sum.tif",
    "denseloc localize movie.tif -o table.parquet --resume",
)


def localize(
    movie: options.Movie,
    out: options.TableOut,
    image: options.Image = None,
    model: options.Model = None,
    method: options.Method = None,
    psf: options.Psf = None,
    pixel_size_nm: options.PixelSize = None,
    camera: options.Camera = None,
    frames: options.FrameRange = None,
    roi: options.Roi = None,
    threshold: options.Threshold = None,
    min_probability: options.MinProbability = None,
    max_sigma_nm: options.MaxSigmaNm = None,
    min_photons: options.MinPhotons = None,
    allow_truncated: options.AllowTruncated = False,
    planes: options.Planes = None,
    refine: options.Refine = False,
    resume: options.Resume = False,
    no_picture: options.NoPicture = False,
    no_report: options.NoReport = False,
    quiet: options.Quiet = False,
    device: options.Device = None,
    tile_px: options.TilePx = 512,
    block_frames: options.BlockFrames = None,
) -> None:
    """Localize the molecules of a movie: a table, and beside it a picture and a report.

    What is not said is measured in the movie, and printed with its interval. Ctrl-C keeps the finished blocks for --resume.
    """
    with Screen("looking at the movie", "localizing", quiet) as screen:
        from .. import pipeline
        from ..formats import check_table
        from ..preparation import read_camera

        watch = Watch(screen, resume)

        def prepared(ready: Preparation) -> None:
            check_beside(out, not no_picture, not no_report)
            watch.prepared(ready)

        given: dict[str, Any] = {"psf": psf, "camera": None if camera is None else read_camera(camera), "planes": planes}
        given |= {"block_frames": block_frames, "device": device, "resume": resume, "allow_truncated": allow_truncated}
        given |= {"pixel_size_nm": pixel_size(pixel_size_nm), "report": watch.report}
        first = out
        if refine:
            check_table(out)
            first = first_table(out)
        made: Refinement | None = None
        with orderly_stop(screen.say, "the present block") as stop:
            run = pipeline.localize(
                movie,
                first,
                image=image,
                model=_model(model, method),
                method=method,
                frames=frame_range(frames),
                roi_px=region(roi),
                threshold=threshold,
                min_probability=min_probability,
                max_sigma_nm=max_sigma_nm,
                min_photons=min_photons,
                tile_px=tile_px,
                prepared=prepared,
                stop=stop,
                **given,
            )
            if refine and run.localizations == 0:
                run = _empty(run, out)
            elif refine:
                if stop():
                    raise ended(stop(), f"what was found is in {first.name}; the same command with --resume refines it")
                made = _refined(first, movie, out, Watch(screen, resume), stop, given)
                run = made.as_run()
            late = stop()
    if late:
        raise ended(late, f"{run.table} is whole; picture and report were not made (denseloc render and denseloc report do it)")
    finish(run, quiet, not no_picture, not no_report)
    if made is not None and not quiet:
        told(made)


def first_table(out: Path) -> Path:
    """Name the table of the first values, which stands beside the refined one until that is whole."""
    return out.with_name(out.name + ".first.parquet")


def _empty(run: Run, out: Path) -> Run:
    """Make a table without localizations the result: there is nothing to refine."""
    from ..formats import read_table, write_table

    write_table(out, read_table(run.table), run.provenance)
    run.table.unlink()
    return replace(run, table=out)


def _refined(first: Path, movie: Path, out: Path, watch: Watch, stop: Callable[[], int], given: dict[str, Any]) -> Refinement:
    """Refine the table of the first values and remove it."""
    from .. import verbs

    watch.screen.say("refining what was found")
    own = {**given, "report": watch.report}
    try:
        made = verbs.refine(first, movie, out, prepared=lambda _: watch.rate.start(), stop=stop, **own)
    except DenselocError as error:
        if given["resume"] or isinstance(error, Interrupted) or "\n" in str(error):  # that says already how to go on
            raise
        raise type(error)(f"{error}\nwhat was found is kept in {first.name}; the same command with --resume refines it") from error
    first.unlink()
    return made


def told(made: Refinement) -> None:
    """Say what a refinement has moved, added and removed."""
    share = f", {number(made.linked)} share their position with another frame" if made.linked else ""
    say(f"refined  {number(made.refined)} of {number(made.rows)} localizations{share}")
    kinds: dict[str, int] = {}
    for decision in made.decisions:
        kinds[decision.what] = kinds.get(decision.what, 0) + 1
    if kinds:
        words = ", ".join(f"{number(n)} {what}" for what, n in sorted(kinds.items()))
        say(f"         {words}: see {made.table.with_suffix('.decisions.csv').name}")
    for warning in made.late:
        caution(warning)


APART = ("note", "if you know your camera, give it")
"""Sentences among the lines of what was assumed; they stand below the table of values."""


class Watch:
    """Says what was assumed, and how a localization goes."""

    def __init__(self, screen: Screen, resumed: bool = False) -> None:
        self.screen, self.resumed, self.rate = screen, resumed, Rate()

    def prepared(self, ready: Preparation) -> None:
        """Print what was measured or assumed."""
        split = [line.partition(": ") for line in ready.lines]
        self.screen.show(pairs([(name, value) for name, colon, value in split if colon and name not in APART]))
        for name, colon, value in split:
            if not colon or name in APART:
                self.screen.say(name + colon + value)
        for warning in ready.warnings:
            self.screen.say(f"warning: {warning}", "yellow")
        self.rate.start()

    def report(self, progress: Progress) -> None:
        """Show frames per second, localizations so far and the time left."""
        if self.resumed:
            self.resumed = False
            self.rate.start(progress.frames)
        speed = self.rate.per_second(progress.frames)
        words = f"{number(progress.localizations)} localizations"
        if speed > 0:
            left = clock((progress.n_frames - progress.frames) / speed)
            words = f"{number(speed)} frames/s  {words}  {left} left"
        self.screen.step(progress.frames, progress.n_frames, words)


def _selected(table: Path, selection: Selection) -> Path | Localizations:
    """Give the rows of a table's file that are wanted, read part by part; the file itself where all are."""
    if not selection:
        return table
    from ..data import Localizations
    from ..formats import iter_table

    kept = [selection.keep(part) for part in iter_table(table)]
    joined = Localizations.concat(kept)
    return joined.with_provenance(**vars(selection.noted(joined.provenance)))


def _told(found: Path | Localizations) -> None:
    """Say how many rows a selection has left."""
    if not isinstance(found, Path):
        say(f"kept     {number(len(found))} localizations ({found.provenance.settings['assumed'][-1].removeprefix('kept: ')})")


def _model(name: str | None, method: str | None) -> Model | str | None:
    """Find the model asked for; with a method it must be one of that method."""
    if method is None:
        return name
    from ..errors import ModelError
    from ..localize import LOCALIZERS
    from ..model_file import find_model

    LOCALIZERS.get(method)
    if name is None:
        return None
    found = find_model(name)
    if found.experiment.localizer.kind != method:
        kind = found.experiment.localizer.kind
        raise ModelError(f"model {found.name} is one of method '{kind}', --method says '{method}'; leave one of them out")
    return found


def check_beside(table: Path, picture: bool, page: bool) -> None:
    """Check, before the long work, that picture and report can be written beside a table."""
    from ..verbs.picture import check_picture
    from ..verbs.reporting import check_report

    if picture:
        check_picture(table.with_suffix(".png"))
    if page:
        check_report(table.with_suffix(".html"))


def finish(run: Run, quiet: bool, picture: bool, page: bool) -> None:
    """Write picture and report beside the table and say where all lies."""
    from .. import verbs
    from ..formats import read_table

    image = None
    lines = [] if run.image is None else [f"image    {run.image}"]
    lines.append(
        f"table    {run.table}   {number(run.localizations)} localizations in {number(run.frames)} frames, {duration(run.seconds)}"
    )
    size, shape = run.provenance.pixel_size_nm, run.provenance.shape_px
    assert size is not None
    assert shape is not None
    if picture:
        target = run.table.with_suffix(".png")
        image = verbs.render(run.table, target, field_nm=(shape[0] * size[0], shape[1] * size[1]))
        lines.append(f"picture  {target}")
    warnings: list[str] = []
    if page:
        target = run.table.with_suffix(".html")
        table = read_table(run.table)
        found = verbs.report(table.with_provenance(**vars(run.provenance)), target, image=image)
        warnings = [warning for warning in found.warnings if warning not in run.warnings]
        lines.append(f"report   {target}")
    else:
        lines.append("report   left out, so the model was not compared with the raw frames (denseloc report does it later)")
    if quiet:
        return
    for line in lines:
        say(line)
    for warning in warnings:
        caution(warning)


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
) -> None:
    """Draw a table, or an image that a method gave itself, as a super-resolved picture."""
    for option, value, known in (("--mode", mode, ("gaussian", "histogram")), ("--colour", colour, ("z", "none", None))):
        if value not in known:
            expected = " or ".join(word for word in known if word)
            raise typer.BadParameter(f"found '{value}', expected {expected}", param_hint=option)
    from .. import verbs
    from ..selection import Selection

    rows = _selected(table, Selection(min_probability, max_sigma_nm, min_photons))
    image = verbs.render(
        rows,
        out,
        pixel_size_nm=pixel_size_nm,
        mode=mode,  # type: ignore[arg-type]
        sigma_nm=sigma_nm,
        colour=colour,  # type: ignore[arg-type]
        z_range_nm=pair(z_range, "--z-range", "low,high in nm"),
        field_nm=pair(field_nm, "--field-nm", "height,width in nm"),
        scale_bar=not no_scale_bar,
        colormap=colormap,
    )
    height, width = image.pixels.shape[:2]
    _told(rows)
    say(f"picture  {out}   {width} x {height} pixels of {image.pixel_size_nm[1]:g} nm")


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
) -> None:
    """Write the report of a table: one HTML file that opens without network."""
    from .. import verbs
    from ..selection import Selection

    rows = _selected(table, Selection(min_probability, max_sigma_nm, min_photons))
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
    field_nm: options.FieldNm = None,
    border_nm: options.BorderNm = 450.0,
    lateral_nm: options.LateralNm = 250.0,
    axial_nm: options.AxialNm = 500.0,
    min_probability: options.MinProbability = None,
    max_sigma_nm: options.MaxSigmaNm = None,
    min_photons: options.MinPhotons = None,
) -> None:
    """Compare a table with the truth by the rule of the SMLM challenge."""
    from .. import verbs
    from ..evaluate import describe
    from ..selection import Selection
    from ..verbs.assessment import offset_between, opened

    rows = _selected(table, Selection(min_probability, max_sigma_nm, min_photons))
    found, true = opened(rows), opened(truth)
    settings: dict[str, Any] = {
        "field_nm": pair(field_nm, "--field-nm", "height,width in nm"),
        "border_nm": border_nm,
        "lateral_nm": lateral_nm,
        "axial_nm": axial_nm,
    }
    assessments = verbs.evaluate(found, true, wobble=wobble, remove_offset=remove_offset, **settings)
    if as_json:
        typer.echo(json.dumps({key: one.to_json() for key, one in assessments.items()}, indent=1, allow_nan=False))
        return
    _told(rows)
    if remove_offset:
        offset = offset_between(found, true)
        say(
            f"offset taken away: x {offset.dx_nm:.1f} nm, y {offset.dy_nm:.1f} nm, z {offset.dz_nm:.1f} nm ({number(offset.n_pairs)} pairs)"
        )
    typer.echo(describe(assessments))
