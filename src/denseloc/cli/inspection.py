"""The command that looks at a movie before anything is done with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from . import options
from .screen import Screen
from .words import caution, console, note, pairs, pixel_size, say

if TYPE_CHECKING:
    from ..verbs import Inspection

DocumentOut = Annotated[
    Path | None, Option("--out", "-o", metavar="EXPERIMENT", help="Experiment document to write, .toml.", show_default=False)
]
Dark = Annotated[Path | None, Option(metavar="FILE", help="Frames without light, of the same region.", show_default=False)]
Bright = Annotated[
    list[Path] | None,
    Option(metavar="FILE", help="Frames of even, still light, one level a file; give it once for each.", show_default=False),
]
Psf = Annotated[
    Path | None, Option(metavar="FILE", help="Calibrated PSF: also say how deep the molecules lie.", show_default=False)
]
PageOut = Annotated[
    Path | None, Option("--report", metavar="PAGE", help="Report to write.", show_default="EXPERIMENT with .report.html")
]
Cameras = Annotated[Path | None, Option(metavar="FILE", help="TOML file of more known cameras.", show_default=False)]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object.")]

INSPECT_EXAMPLES = (
    "denseloc inspect movie.tif --pixel-size-nm 100",
    "denseloc inspect movie.tif -o experiment.toml",
    "denseloc inspect movie.tif --psf psf.h5 --report page.html",
    "denseloc inspect movie.tif --dark dark.tif --bright weak.tif --bright strong.tif -o experiment.toml",
)


def inspect(
    movie: options.Movie,
    out: DocumentOut = None,
    pixel_size_nm: options.PixelSize = None,
    camera: options.Camera = None,
    dark: Dark = None,
    bright: Bright = None,
    psf: Psf = None,
    cameras: Cameras = None,
    report: PageOut = None,
    no_report: options.NoReport = False,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what a movie was taken under: camera, background, molecules; each value with its interval and source.

    What the file says of its camera is shown beside what its counts show; it is never used unless you give it with --camera.
    """
    if report is not None and no_report:
        raise typer.BadParameter("a page with --no-report; give one of the two", param_hint="--report")
    nm = pixel_size(pixel_size_nm)
    with Screen("reading", "inspecting", quiet or as_json) as screen:
        from .. import verbs
        from ..preparation import read_camera

        found = verbs.inspect(
            movie,
            pixel_size_nm=nm,
            camera=read_camera(camera) if camera else None,
            dark=dark,
            bright=bright or (),
            psf=psf,
            cameras=cameras,
            out=out,
            report=report or not no_report,
            progress=screen.say,
        )
    if as_json:
        import json

        say(json.dumps(found.to_json()))
    elif not quiet:
        _show(found, out)


def _show(found: Inspection, out: Path | None) -> None:
    from ..verbs.inspection import said_by_table

    console().print(pairs([(fact.name, str(fact)) for fact in found.facts]))
    told = [("proposed, not used", str(proposal)) for proposal in found.proposals]
    if found.known_camera is not None:
        told.append(("proposed, not used", said_by_table(found.known_camera)))
    if told:
        console().print(pairs(told))
    for line in found.contradictions:
        caution(line)
    for line in found.notes:
        note(line)
    if found.page is not None:
        say(f"report {found.page}")
    if out is not None:
        say(f"document {out}   next: denseloc train {out} -o model.safetensors")
