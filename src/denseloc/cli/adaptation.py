"""The command that takes a trained model to a real movie."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from typer import Argument, Option

from . import options
from .analysis import Watch
from .screen import Screen, clock
from .signals import orderly_stop
from .words import caution, console, duration, frame_range, pixel_size, region, say

if TYPE_CHECKING:
    from ..train.wake_sleep import WakeSleepProgress
    from ..verbs import Adaptation

Model = Annotated[str, Argument(metavar="MODEL", help="Model file of method decode, or name of a shipped one.", show_default=False)]
AdaptedOut = Annotated[Path, Option("--out", "-o", metavar="MODEL2", help="Model file to write, .safetensors.", show_default=False)]
Minutes = Annotated[
    float | None, Option(min=0.01, help="Time to spend; on --resume the rounds planned at first stay.", show_default="12")
]
Samples = Annotated[
    int | None,
    Option(
        metavar="K", min=2, max=4096, help="Sets of emitters drawn for each frame.", show_default="32, fewer where memory is short"
    ),
]
KeepPsf = Annotated[bool, Option("--keep-psf", help="Keep the PSF; learn network, background and rates only.")]
ResumeAdapting = Annotated[bool, Option("--resume", help="Go on from the checkpoint beside the model file.")]

ADAPT_EXAMPLES = (
    "denseloc adapt general-2d movie.tif -o mine.safetensors --pixel-size-nm 100",
    "denseloc adapt model.safetensors movie.tif -o adapted.safetensors --minutes 40",
    "denseloc adapt model.safetensors movie.tif -o adapted.safetensors --keep-psf --frames 0:2000",
    "denseloc adapt model.safetensors movie.tif -o adapted.safetensors --resume",
)


def adapt(
    model: Model,
    movie: options.Movie,
    out: AdaptedOut,
    minutes: Minutes = None,
    samples: Samples = None,
    keep_psf: KeepPsf = False,
    pixel_size_nm: options.PixelSize = None,
    camera: options.Camera = None,
    frames: options.FrameRange = None,
    roi: options.Roi = None,
    planes: options.Planes = None,
    resume: ResumeAdapting = False,
    no_report: options.NoReport = False,
    quiet: options.Quiet = False,
    device: options.Device = None,
) -> None:
    """Adapt a trained model to a movie: the PSF is fitted to its molecules, the network learns from simulations with that PSF.

    The model is written only if held-out frames are explained better than before; else the exit code is 3. Ctrl-C leaves a checkpoint
    for --resume.
    """
    with Screen("looking at the movie", "adapting", quiet) as screen:
        from .. import verbs
        from ..preparation import read_camera

        watch = _Watch(screen)
        with orderly_stop(screen.say, "the present round") as stop:
            made = verbs.adapt(
                model,
                movie,
                out,
                minutes=minutes,
                samples=samples,
                learn_psf=not keep_psf,
                pixel_size_nm=pixel_size(pixel_size_nm),
                camera=None if camera is None else read_camera(camera),
                planes=planes,
                frames=frame_range(frames),
                roi_px=region(roi),
                device=device,
                resume=resume,
                page=not no_report,
                prepared=Watch(screen).prepared,
                report=watch.report,
                say=screen.say,
                stop=stop,
            )
    if not quiet:
        _show(made)
        if made.file is not None:
            say(f"next     denseloc localize {movie} --model {made.file} -o TABLE")
    if made.refused is not None:
        from ..errors import NoGain

        raise NoGain(f"no model was written: {made.refused}")


class _Watch:
    """Shows how an adaptation goes."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def report(self, progress: WakeSleepProgress) -> None:
        """Show the gain of the held-out bound and the time left."""
        for message in progress.messages:
            self.screen.say(message, "yellow")
        gain = "" if progress.gain is None else f"gain on held-out frames {progress.gain:+.2f} nats"
        if gain and progress.best is not None and progress.best > (progress.gain or 0.0):
            gain += f", at best {progress.best:+.2f}"
        gain += ", " if gain else ""
        left = (progress.steps - progress.step) * progress.seconds / max(progress.step, 1)
        self.screen.step(progress.step, progress.steps, f"{gain}{clock(left)} left")


def _show(made: Adaptation) -> None:
    """Say what changed."""
    from ..report.adaptation import learned_rows, quality_rows

    table = Table(box=None, pad_edge=False)
    for name in ("", "before", "after"):
        table.add_column(name, justify="right" if name else "left")
    for row in (*quality_rows(*(asdict(one) for one in made.quality)), *learned_rows(*made.theta)):
        table.add_row(*row)
    console().print(table)
    say(
        f"gain     {made.gain.mean:+.2f} ± {made.gain.error:.2f} nats per frame that was held out to judge by, {made.network_gain.mean:+.2f} ± "
        f"{made.network_gain.error:.2f} between the networks with the new PSF"
    )
    for warning in made.warnings:
        caution(warning)
    if made.file is not None:
        say(f"model    {made.file}   {made.steps} rounds, {duration(made.seconds)}")
    if made.page is not None:
        say(f"report   {made.page}")
