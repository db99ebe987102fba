"""The design stair: simulate, train, recalibrate."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from . import options
from .screen import Rate, Screen, clock
from .signals import ended, orderly_stop
from .words import duration, in_colour, number, per_second, say, size

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
            screen.step(done, n, f"{per_second(rate.per_second(done))} frames/s")

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
        checkpoint = out.with_suffix(".checkpoint")
        if resume and not checkpoint.exists():
            ready = "; a finished model of this document is left as it is" if out.exists() else "; it begins from the beginning"
            screen.say(f"there is no {checkpoint.name} to go on from{ready}")
        with orderly_stop(screen.say, "the present step") as stop:
            model = teach(
                experiment, out, start_from=start_from, device=device, resume=resume, report=watch.report, stop=lambda: bool(stop())
            )
            late = stop()
        record, steps = model.record, model.experiment.training.steps
        if checkpoint.exists():  # it goes when all is done
            raise Interrupted(
                f"stopped after step {record['steps']} of {steps}; {checkpoint.name} is kept, the same command with --resume goes on",
                128 + (late or signal.SIGINT),
            )
        if late:
            raise ended(late, f"{out} is whole, all {steps} steps were done")
    if not quiet:
        scores = record["history"][-1] if record["history"] else {}
        quality = (
            f", Jaccard {scores['jaccard']:.1f} %, RMSE {scores['rmse_lateral_nm']:.1f} nm{in_colour(scores.get('right_channel'))}"
            if scores
            else ""
        )
        say(f"model    {out}   {number(record['steps'])} steps, {duration(record['seconds'])}{quality}")
        if model.uncertainty is not None:
            _say_uncertainty(model.uncertainty)


RECALIBRATE_EXAMPLES = (
    "denseloc recalibrate model.safetensors",
    "denseloc recalibrate general-2d -o corrected.safetensors",
    "denseloc recalibrate single.toml -o corrected.safetensors",
)


def recalibrate(
    model: options.TrainedModel,
    out: options.CorrectedOut = None,
    quiet: options.Quiet = False,
    device: options.Device = None,
) -> None:
    """Correct sigma and probability of a trained model by counting its errors on simulations.

    Training ends with this; the command does it for models of older versions, and for methods without training, given by their document:
    localize takes what it writes as --model. Positions stay as they are.
    """
    with Screen("simulating", "counting errors", quiet) as screen:
        from .. import verbs

        made = verbs.recalibrate(model, out, device=device, progress=lambda done, n: screen.step(done, n, "at most"))
    if not quiet:
        from ..evaluate import in_words

        say(f"model    {made.file}")
        say(f"before   {in_words(made.found.before.pulls)}")
        _say_uncertainty(made.model.uncertainty or {})


def _say_uncertainty(known: dict[str, Any]) -> None:
    """Say how true the uncertainties are, and what was done to them."""
    from ..evaluate import in_words, read_pulls

    correction = f"; {known['correction']}" if known.get("correction") else ""
    say(f"sigma    {in_words(read_pulls(known.get('pulls')))}{correction}")


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
            words += in_colour(progress.score.right_channel)
        left = (progress.steps - progress.step) * progress.seconds / max(progress.step, 1)
        self.screen.step(progress.step, progress.steps, f"{words}  {clock(left)} left")
