"""The command that localizes, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import DenselocError, Interrupted
from . import options
from .screen import Rate, Screen, clock
from .signals import ended, orderly_stop
from .words import caution, duration, frame_range, number, pairs, per_second, pixel_size, region, say

if TYPE_CHECKING:
    from ..blocks import Progress
    from ..model_file import Model
    from ..pipeline import Run
    from ..preparation import Preparation
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
    "denseloc localize movie.tif -o table.parquet --filter-rate 0.3",
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
    filter_rate: options.FilterRate = None,
    rescale_offsets: options.RescaleOffsets = False,
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
        from ..preparation import read_camera

        first = _first_target(out, refine, rescale_offsets)
        watch = Watch(screen, resume)

        def prepared(ready: Preparation) -> None:
            check_beside(out, not no_picture, not no_report)
            watch.prepared(ready)

        both: dict[str, Any] = {"psf": psf, "camera": None if camera is None else read_camera(camera), "planes": planes}
        both |= {"block_frames": block_frames, "device": device, "resume": resume, "allow_truncated": allow_truncated}
        both |= {"pixel_size_nm": pixel_size(pixel_size_nm)}
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
                filter_rate=filter_rate,
                rescale_offsets=rescale_offsets,
                tile_px=tile_px,
                prepared=prepared,
                report=watch.report,
                stop=stop,
                **both,
            )
            run, made = _refined(run, movie, out, Watch(screen, resume), stop, both) if refine else (run, None)
            late = stop()
    if late:
        raise ended(late, f"{run.table} is whole; picture and report were not made (denseloc render and denseloc report do it)")
    finish(run, quiet, not no_picture, not no_report)
    if rescale_offsets and not quiet:
        say(run.provenance.settings["assumed"][-1])
    if made is not None and not quiet:
        told(made)


def _first_target(out: Path, refine: bool, rescale_offsets: bool) -> Path:
    """Name the table that is written first: the result, or beside it the one that is to be refined."""
    if not refine:
        return out
    from ..formats import check_table

    if rescale_offsets:
        raise typer.BadParameter("refined positions know no pixels; leave it or --refine out", param_hint="--rescale-offsets")
    check_table(out)
    return first_table(out)


def first_table(out: Path) -> Path:
    """Name the table of the first values, which stands beside the refined one until that is whole."""
    return out.with_name(out.name + ".first.parquet")


def _refined(
    run: Run, movie: Path, out: Path, watch: Watch, stop: Callable[[], int], both: dict[str, Any]
) -> tuple[Run, Refinement | None]:
    """Refine the table of the first values and remove it; one without localizations becomes the result as it is."""
    from .. import verbs

    first = run.table
    if run.localizations == 0:
        return _empty(run, out), None
    if stop():
        raise ended(stop(), f"what was found is in {first.name}; the same command with --resume refines it")
    watch.screen.say("refining what was found")
    try:
        made = verbs.refine(first, movie, out, prepared=lambda _: watch.rate.start(), report=watch.report, stop=stop, **both)
    except DenselocError as error:
        if both["resume"] or isinstance(error, Interrupted) or "\n" in str(error):  # that says already how to go on
            raise
        raise type(error)(f"{error}\nwhat was found is kept in {first.name}; the same command with --resume refines it") from error
    first.unlink()
    return made.as_run(), made


def _empty(run: Run, out: Path) -> Run:
    """Make a table without localizations the result: there is nothing to refine."""
    from ..formats import read_table, write_table

    write_table(out, read_table(run.table), run.provenance)
    run.table.unlink()
    return replace(run, table=out)


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
            words = f"{per_second(speed)} frames/s  {words}  {left} left"
        self.screen.step(progress.frames, progress.n_frames, words)


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
