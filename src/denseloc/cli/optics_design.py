"""The command that designs a phase mask."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from . import options
from .screen import Screen, clock
from .signals import ended, orderly_stop
from .words import caution, duration, in_colour, number, say

if TYPE_CHECKING:
    from ..train import Progress
    from ..verbs import Designed

DESIGN_EXAMPLES = (
    "denseloc design optics.toml -o mask",
    "denseloc design optics.toml -o mask --resume",
    "denseloc train mask/experiment.json -o model.safetensors",
)

OpticsDocument = Annotated[
    Path, Argument(metavar="DOCUMENT", help="Experiment document with a section \\[design], .toml or .json.", show_default=False)
]
FolderOut = Annotated[Path, Option("--out", "-o", metavar="FOLDER", help="Folder for the results.", show_default=False)]
ResumeDesign = Annotated[bool, Option("--resume", help="Go on from the checkpoint in the folder.")]


def design(
    document: OpticsDocument,
    out: FolderOut,
    resume: ResumeDesign = False,
    quiet: options.Quiet = False,
    device: options.Device = None,
) -> None:
    """Design a phase mask: by the bound of one molecule over a range of depths, or together with the network that reads it.

    The folder gets the PSF, the mask for a light modulator, pictures, and an experiment ready for training; the objective "network" a trained
    model as well. Ctrl-C leaves a checkpoint for --resume.
    """
    with Screen("computing the first images", "designing", quiet) as screen:
        from .. import verbs
        from ..errors import Interrupted

        def report(progress: Progress) -> None:
            for message in progress.messages:
                screen.say(message, "yellow")
            left = (progress.steps - progress.step) * progress.seconds / max(progress.step, 1)
            what = f"bound {progress.loss:.2f} nm" if progress.score is None else f"Jaccard {progress.score.jaccard:.1f} %"
            screen.step(progress.step, progress.steps, f"{what}  {clock(left)} left")

        if resume and not (out / "design.checkpoint").exists():
            screen.say("there is no design.checkpoint to go on from; it begins from the beginning")
        with orderly_stop(screen.say, "the present step") as stop:
            made = verbs.design(document, out, device=device, resume=resume, report=report, stop=lambda: bool(stop()))
            late = stop()
        if not made.is_finished:
            raise Interrupted(
                f"stopped after step {made.steps} of {made.planned}; {made.folder / 'design.checkpoint'} is kept, the same command with "
                "--resume goes on",
                128 + (late or signal.SIGINT),
            )
        if late:
            raise ended(late, f"{out} is whole, all {made.planned} steps were done")
    if not quiet:
        _say(made)


def _say(made: Designed) -> None:
    """Say what the design brought, and where it lies."""
    before, after = made.before, made.after
    say(f"design   {made.folder / 'design.png'}   {number(made.steps)} steps, {duration(made.record['seconds'])}")
    say(
        f"bound    {before.mean_nm:.1f} -> {after.mean_nm:.1f} nm on average over x, y, z and depth, {before.largest_nm:.1f} -> "
        f"{after.largest_nm:.1f} nm at the worst depth"
    )
    say(f"mask     {made.folder / 'mask.tif'}, .mat, .npy   phase in rad")
    grey = made.folder / "modulator.tif"
    if made.record["design"].get("modulator"):
        say(f"         {grey}   grey levels for the light modulator")
    say(f"psf      {made.folder / 'psf.h5'}   experiment {made.folder / 'experiment.json'}")
    if made.model is not None:
        scores = made.model.record["history"][-1] if made.model.record["history"] else {}
        quality = (
            f"   Jaccard {scores['jaccard']:.1f} %, RMSE {scores['rmse_lateral_nm']:.1f} nm{in_colour(scores.get('right_channel'))}"
            if scores
            else ""
        )
        say(f"model    {made.folder / 'model.safetensors'}{quality}")
    else:
        say(f"next     denseloc train {made.folder / 'experiment.json'} -o MODEL")
    for text in made.notes:
        caution(text)
