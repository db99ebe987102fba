"""The design stair: simulate, train, calibrate."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from . import options
from .screen import Rate, Screen, clock
from .signals import orderly_stop
from .words import caution, duration, number, pixel_size, say, size

if TYPE_CHECKING:
    from ..train import Progress

SIMULATE_EXAMPLES = (
    "denseloc simulate experiment.toml -o movie.tif",
    "denseloc simulate experiment.toml -o movie.tif --frames 1000 --size 64x128",
    "denseloc simulate experiment.toml -o movie.tif --truth truth.csv --seed 7",
)


def simulate(
    experiment: options.Document,
    out: options.MovieOut,
    frames: options.Frames = 100,
    frame_size: options.Size = "64",
    seed: options.Seed = 0,
    truth: options.TruthOut = None,
    quiet: options.Quiet = False,
) -> None:
    """Simulate a movie and its truth from a document."""
    shape = size(frame_size)
    with Screen("drawing molecules", "simulating", quiet) as screen:
        from .. import verbs

        rate = Rate()

        def progress(done: int, n: int) -> None:
            screen.step(done, n, f"{number(rate.per_second(done))} frames/s")

        made = verbs.simulate(experiment, out, n_frames=frames, shape_px=shape, seed=seed, truth=truth, progress=progress)
    if not quiet:
        say(f"movie    {made.movie}   {number(made.n_frames)} frames of {shape[0]} x {shape[1]} px")
        say(f"truth    {made.truth}   {number(made.emitters)} emitters")


TRAIN_EXAMPLES = (
    "denseloc train experiment.toml -o model.safetensors",
    "denseloc train experiment.toml -o model.safetensors --start-from general-2d",
    "denseloc train experiment.toml -o model.safetensors --resume",
)


def train(
    experiment: options.Document,
    out: options.ModelOut,
    start_from: options.StartFrom = None,
    resume: options.ResumeTraining = False,
    quiet: options.Quiet = False,
    device: options.Device = None,
) -> None:
    """Train a localizer for the microscope of a document, from simulations alone.

    Ctrl-C leaves a checkpoint for --resume; the result is that of a training that was not interrupted.
    """
    with Screen("simulating the first movies", "training", quiet) as screen:
        from ..errors import Interrupted
        from ..training import train as teach

        watch = Lessons(screen)
        with orderly_stop(screen.say, "the present step") as stop:
            model = teach(
                experiment, out, start_from=start_from, device=device, resume=resume, report=watch.report, stop=lambda: bool(stop())
            )
            number_of_signal = stop()
        record, steps = model.record, model.experiment.training.steps
        if record["steps"] < steps:
            checkpoint = out.with_suffix(".checkpoint").name
            raise Interrupted(
                f"stopped after step {record['steps']} of {steps}; {checkpoint} is kept, the same command with --resume goes on",
                128 + (number_of_signal or signal.SIGINT),
            )
    if not quiet:
        scores = record["history"][-1] if record["history"] else {}
        quality = f", Jaccard {scores['jaccard']:.1f} %, RMSE {scores['rmse_lateral_nm']:.1f} nm" if scores else ""
        say(f"model    {out}   {number(record['steps'])} steps, {duration(record['seconds'])}{quality}")


class Lessons:
    """Shows how a training goes."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def report(self, progress: Progress) -> None:
        """Show loss, Jaccard, RMSE and the time left, and what the guard had to say."""
        for message in progress.messages:
            self.screen.say(message, "yellow")
        words = f"loss {progress.loss:.3f}"
        if progress.score is not None:
            words += f"  Jaccard {progress.score.jaccard:.1f} %  RMSE {progress.score.rmse_lateral_nm:.1f} nm"
        left = (progress.steps - progress.step) * progress.seconds / max(progress.step, 1)
        self.screen.step(progress.step, progress.steps, f"{words}  {clock(left)} left")


CALIBRATE_EXAMPLES = (
    "denseloc calibrate beads.tif -o psf.json --kind astigmatic --z-step-nm 10 \\",
    "    --pixel-size-nm 100 --camera offset=100,electrons_per_count=0.5",
    '# then, in the document:  \\[psf]  file = "psf.json"',
)


def calibrate(
    beads: options.Beads,
    out: options.PsfOut,
    kind: options.Kind,
    z_step_nm: options.ZStepNm,
    camera: options.GivenCamera,
    pixel_size_nm: options.PixelSize = None,
    z_first_nm: options.ZFirstNm = None,
    roi_px: options.RoiPx = 21,
    quiet: options.Quiet = False,
) -> None:
    """Fit a PSF to a stack of beads and write it as a part of a document."""
    nm = pixel_size(pixel_size_nm)
    with Screen("fitting", "fitting", quiet) as screen:
        from .. import verbs
        from ..preparation import read_camera

        fit = verbs.calibrate(
            beads,
            out,
            kind=kind,
            z_step_nm=z_step_nm,
            camera=read_camera(camera),
            pixel_size_nm=nm,
            z_first_nm=z_first_nm,
            roi_px=roi_px,
            progress=screen.say,
        )
    if not quiet:
        say(
            f"psf      {out}   {len(fit.photons)} beads, chi2 {fit.chi2:.2f} (by the formula alone {fit.chi2_formula:.2f}; 1 is perfect)"
        )
    if fit.chi2 > 2:
        caution(
            f"the PSF does not describe these beads (chi2 {fit.chi2:.1f}): wrong kind, camera, z step, or no bead stack; do not use it untested"
        )
