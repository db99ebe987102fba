"""The command that makes a PSF of a stack of beads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from . import options
from .screen import Screen
from .words import caution, console, note, number, pairs, pixel_size

if TYPE_CHECKING:
    from ..optics import PupilSettings
    from ..verbs import Calibration

OPTICS = "Optics, for --kind pupil"
MOST_REJECTED = 6
"""Rejected beads that are named on the terminal; the report has them all."""

Beads = Annotated[
    list[Path],
    Argument(metavar="BEADS...", help="Stacks of beads, one frame a depth; several are fitted together.", show_default=False),
]
PsfOut = Annotated[
    Path,
    Option(
        "--out",
        "-o",
        metavar="PSF",
        help="PSF to write: .h5, .json or .toml; .mat for SMAP, .yaml for Picasso.",
        show_default=False,
    ),
]
Kind = Annotated[str, Option(help="spline, parametric, pupil; or a formula: gaussian, astigmatic, double_helix, multiplane.")]
ZStepNm = Annotated[float, Option(help="Distance of two planes; below 0 where the depth falls.", show_default=False)]
ZFirstNm = Annotated[float | None, Option(help="Depth of the first frame.", show_default="0 is in best focus")]
RoiPx = Annotated[int, Option(help="Odd width of the PSF in pixels.")]
Camera = Annotated[str | None, Option(metavar="TEXT", help=options.CAMERA_HELP, show_default="measured from the stack")]
HeldOut = Annotated[bool, Option("--held-out", help="Judge on beads or planes that the PSF was not fitted to.")]
NoReport = Annotated[bool, Option("--no-report", help="Leave the report out.")]
WavelengthNm = Annotated[
    float | None, Option(metavar="NM", help="Wavelength of emission.", show_default=False, rich_help_panel=OPTICS)
]
Aperture = Annotated[
    float | None, Option("--na", metavar="NA", help="Numerical aperture.", show_default=False, rich_help_panel=OPTICS)
]
ImmersionIndex = Annotated[
    float | None, Option(help="Refractive index of the immersion.", show_default="1.518", rich_help_panel=OPTICS)
]
MediumIndex = Annotated[
    float | None, Option(help="Refractive index around the beads.", show_default="1.33", rich_help_panel=OPTICS)
]
WaveModel = Annotated[
    str | None,
    Option("--model", metavar="NAME", help="vectorial, or scalar (quicker).", show_default="vectorial", rich_help_panel=OPTICS),
]
BeadNm = Annotated[float | None, Option(help="Diameter of the beads; 0 for points.", show_default="0", rich_help_panel=OPTICS)]
FreePhase = Annotated[
    bool, Option("--free-phase", help="Fit the phase in the pupil freely, after its polynomials.", rich_help_panel=OPTICS)
]

CALIBRATE_EXAMPLES = (
    "denseloc calibrate beads.tif --pixel-size-nm 100 --z-step-nm 10 -o psf.h5",
    "denseloc calibrate a.tif b.tif --z-step-nm 25 --camera offset=100,electrons_per_count=0.5 --held-out -o psf.h5",
    "denseloc calibrate beads.tif --z-step-nm 10 --kind pupil --wavelength-nm 670 --na 1.49 -o psf.h5",
    "denseloc localize movie.tif --method single --psf psf.h5 -o table.parquet",
    '# or, in a document to train with:  \\[psf]  file = "psf.h5"',
)


def calibrate(
    beads: Beads,
    out: PsfOut,
    z_step_nm: ZStepNm,
    kind: Kind = "spline",
    pixel_size_nm: options.PixelSize = None,
    camera: Camera = None,
    z_first_nm: ZFirstNm = None,
    planes: options.Planes = None,
    roi_px: RoiPx = 21,
    held_out: HeldOut = False,
    wavelength_nm: WavelengthNm = None,
    numerical_aperture: Aperture = None,
    immersion_index: ImmersionIndex = None,
    medium_index: MediumIndex = None,
    model: WaveModel = None,
    bead_diameter_nm: BeadNm = None,
    free_phase: FreePhase = False,
    no_report: NoReport = False,
    quiet: options.Quiet = False,
) -> None:
    """Find beads in stacks, fit a PSF to them, say what it is worth, and write it with a report beside it.

    A calibration that cannot be trusted is refused, with the reason.
    """
    nm = pixel_size(pixel_size_nm)
    with Screen("reading", "calibrating", quiet) as screen:
        from .. import verbs
        from ..preparation import read_camera

        optics = {
            "wavelength_nm": wavelength_nm,
            "numerical_aperture": numerical_aperture,
            "immersion_index": immersion_index,
            "medium_index": medium_index,
            "model": model,
            "bead_diameter_nm": bead_diameter_nm,
        }
        found = verbs.calibrate(
            beads,
            out,
            kind=kind,
            z_step_nm=z_step_nm,
            camera=None if camera is None else read_camera(camera),
            pixel_size_nm=nm,
            z_first_nm=z_first_nm,
            planes=planes,
            roi_px=roi_px,
            pupil=_pupil(kind, optics, roi_px, free_phase),
            free_phase=free_phase,
            held_out=held_out,
            report=not no_report,
            progress=screen.say,
        )
    if not quiet:
        _show(found)


OPTICS_DEFAULTS = {"immersion_index": 1.518, "medium_index": 1.33, "model": "vectorial", "bead_diameter_nm": 0.0}


def _pupil(kind: str, optics: dict[str, Any], roi_px: int, free_phase: bool) -> PupilSettings | None:
    """Make the section of a pupil from the options."""
    optics = {key: value for key, value in optics.items() if value is not None}
    if kind != "pupil":
        given = ["--na" if key == "numerical_aperture" else f"--{key.replace('_', '-')}" for key in optics]
        given += ["--free-phase"] if free_phase else []
        if given:
            raise typer.BadParameter(
                f"{' and '.join(given)} without --kind pupil; only a pupil needs to know the optics", param_hint="--kind"
            )
        return None
    if "wavelength_nm" not in optics or "numerical_aperture" not in optics:
        raise typer.BadParameter(
            "a pupil needs to know the optics: give --wavelength-nm and --na, such as 670 and 1.49", param_hint="--kind"
        )
    from ..description import parse
    from ..optics import PupilSettings

    return parse(PupilSettings, {"kind": "pupil", "roi_px": roi_px, **OPTICS_DEFAULTS, **optics}, "the optics on the command line")


def _show(found: Calibration) -> None:
    fit, judgement = found.fit, found.judgement
    low, high = judgement.usable_nm
    kind = type(fit.psf).model_fields["kind"].default
    rows = [
        ("psf", f"{found.psf}   {kind}, {fit.psf.roi_px} px wide"),
        ("beads", f"{len(fit.used)} of {len(fit.beads)} used, {number(sorted(fit.photons)[len(fit.used) // 2])} photons each"),
        ("fit", f"chi2 {judgement.chi2:.2f} per pixel (1 is perfect)"),
    ]
    known = judgement.z_rmse_and_bound_nm
    if known is not None:
        rows.append(
            ("depth", f"usable from {low:.0f} to {high:.0f} nm; z is {known[0]:.1f} nm off there, the bound is {known[1]:.1f} nm")
        )
    rows.append(("judged on", found.held_out or "the beads that it was fitted to (--held-out judges on others)"))
    if found.page is not None:
        rows.append(("report", str(found.page)))
    console().print(pairs(rows))
    left_out = found.rejected
    for line in left_out[:MOST_REJECTED]:
        note(f"bead left out: {line}")
    if len(left_out) > MOST_REJECTED:
        note(f"{len(left_out) - MOST_REJECTED} more beads left out{'; the report names them' if found.page else ''}")
    for line in found.notes:
        note(line)
    for line in judgement.warnings:
        caution(line)
