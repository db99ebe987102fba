"""The command that says whether a model suits a movie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from typer import Argument, Option

from . import options
from .screen import Screen
from .words import console, note, pixel_size, region, say

if TYPE_CHECKING:
    from ..verbs import Check

FAILED = 3
"""Exit code where the model does not suit the movie."""

Model = Annotated[str, Argument(metavar="MODEL", help="Model file, or name of a shipped one.", show_default=False)]
PageOut = Annotated[Path | None, Option("--report", metavar="PAGE", help="Page to write, .html.", show_default=False)]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object.")]

CHECK_EXAMPLES = (
    "denseloc check mine.safetensors movie.tif",
    "denseloc check general-2d movie.tif --pixel-size-nm 100 --report check.html",
    "denseloc check mine.safetensors movie.tif --camera offset=100,electrons_per_count=0.46 --json",
)


def check(
    model: Model,
    movie: options.Movie,
    report: PageOut = None,
    pixel_size_nm: options.PixelSize = None,
    camera: options.Camera = None,
    planes: options.Planes = None,
    roi: options.Roi = None,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
    device: options.Device = None,
) -> None:
    """Say whether a trained model suits a movie, and what to do where it does not.

    The movie is compared with scenes drawn from the model's own document. Exit code: 0 pass or warn, 3 fail, 2 bad input.
    """
    nm, part = pixel_size(pixel_size_nm), region(roi)
    with Screen("looking at the movie", "checking", quiet or as_json) as screen:
        from .. import verbs
        from ..preparation import read_camera

        found = verbs.check(
            model,
            movie,
            report,
            pixel_size_nm=nm,
            camera=None if camera is None else read_camera(camera),
            planes=planes,
            roi_px=part,
            device=device,
            progress=screen.say,
        )
    if as_json:
        import json

        typer.echo(json.dumps(found.to_json(), allow_nan=False))
    elif not quiet:
        _show(found)
    if found.verdict == "fail":
        raise typer.Exit(FAILED)


COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}
WORDS = {
    "pass": "pass: nothing speaks against this model",
    "warn": "warn: see below",
    "fail": "fail: do not use this model on this movie",
}


def _show(found: Check) -> None:
    suits = found.suitability
    if suits.compared:
        table = Table(box=None, pad_edge=False)
        for name in ("", "movie", "drawn", "trained on", ""):
            table.add_column(name, justify="right" if name else "left")
        from ..report.suitability import rows

        for row in rows(suits):
            table.add_row(*row)
        console().print(table)
    for kind, (mine, usual) in suits.told_apart.items():
        say(
            f"patches {kind}: told from drawn ones with a score of {mine:.2f}, drawn ones from each other {usual:.2f} (0.5 is guessing)"
        )
    say(WORDS[found.verdict], COLOURS[found.verdict])
    for finding in suits.findings:
        say(f"{finding.level}: {finding.text}", COLOURS[finding.level])
    for line in suits.notes:
        note(line)
    if found.page is not None:
        say(f"report {found.page}")
