"""The command that says what a PSF lets one expect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from typer import Argument, BadParameter, Option

from . import options
from .screen import Screen
from .words import console, pair, pixel_size, say

if TYPE_CHECKING:
    from ..verbs import Plan

Psfs = Annotated[
    list[Path], Argument(metavar="PSF...", help="PSF files or experiment documents; several are compared.", show_default=False)
]
PageOut = Annotated[Path | None, Option("--out", "-o", metavar="PAGE", help="Page to write, .html.", show_default=False)]
Photons = Annotated[float, Option(metavar="N", help="Photons of an emitter in a frame.")]
Background = Annotated[float, Option(metavar="N", help="Background photons per pixel and frame.")]
Densities = Annotated[str, Option("--density", metavar="N,N,...", help="Emitters per um^2 and frame.")]
ZRange = Annotated[
    str | None, Option("--z-nm", metavar="LOW,HIGH", help="Depths of the emitters.", show_default="those of the PSF")
]
Camera = Annotated[str | None, Option(metavar="TEXT", help=options.CAMERA_HELP, show_default="without noise")]
Scenes = Annotated[int, Option(min=20, max=5000, help="Crowds drawn at each density.")]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object.")]

PLAN_EXAMPLES = (
    "denseloc plan psf.h5 --photons 1000 --background 10 -o plan.html",
    "denseloc plan astigmatic.h5 tetrapod.h5 --density 0.1,0.5,2 --z-nm -500,500 -o plan.html",
    "denseloc plan experiment.toml --photons 3000 --camera offset=100,electrons_per_count=45,em_gain=300 --json",
)


def plan(
    psfs: Psfs,
    out: PageOut = None,
    photons: Photons = 1000.0,
    background: Background = 10.0,
    densities: Densities = "0.1,0.3,1,2,4",
    z_nm: ZRange = None,
    camera: Camera = None,
    pixel_size_nm: options.PixelSize = None,
    scenes: Scenes = 150,
    seed: options.Seed = 0,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what to expect of a measurement before it is made: precision over depth, and what is told apart in a crowd.

    The numbers are Cramer-Rao bounds, those of the crowd with all neighbours fitted together.
    """
    nm, depths = pixel_size(pixel_size_nm), pair(z_nm, "--z-nm", "two depths in nm, such as -500,500")
    each = _densities(densities)
    with Screen("reading", "planning", quiet or as_json) as screen:
        from .. import verbs
        from ..preparation import read_camera

        found = verbs.plan(
            psfs,
            out,
            photons=photons,
            background=background,
            densities=each,
            z_range_nm=depths,
            camera=None if camera is None else read_camera(camera),
            pixel_size_nm=nm,
            scenes=scenes,
            seed=seed,
            progress=screen.say,
        )
    if as_json:
        import json

        say(json.dumps(found.to_json()))
    elif not quiet:
        _show(found)


def _densities(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadParameter(f"found '{text}', expected numbers per um^2, such as 0.1,1,4", param_hint="--density") from None


def _show(found: Plan) -> None:
    from ..report import plan_verdict

    table = Table(box=None, pad_edge=False)
    for name in ("PSF", "per um^2", "told apart", "x, y (nm)", "z (nm)"):
        table.add_column(name, justify="left" if name == "PSF" else "right")
    for one in found.expectations:
        lateral, axial = one.alone_nm
        table.add_row(one.name, "alone", "", f"{lateral:.1f}", "-" if axial is None else f"{axial:.1f}")
        for crowd in one.in_crowd:
            z = "-" if crowd.axial_nm is None else f"{crowd.axial_nm:.1f}"
            table.add_row("", f"{crowd.density_per_um2:g}", f"{100 * crowd.found:.0f} %", f"{crowd.lateral_nm:.1f}", z)
    console().print(table)
    for line in plan_verdict(found.expectations, found.light):
        say(line)
    if found.page is not None:
        say(f"page  {found.page}")
