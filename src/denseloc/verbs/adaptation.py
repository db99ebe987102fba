"""Adapt a model that learned from simulations to a real movie, and refuse where that makes nothing better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..camera import Camera
from ..data import Movie
from ..errors import Interrupted, ModelError, OutputError, TrainingError
from ..files import alone, check_writable
from ..formats import open_movie
from ..localize import InferringLocalizer
from ..machine import choose_device, keep_memory
from ..model_file import SUFFIX, Model, find_model, save_model
from ..preparation import Preparation, prepare, serves_many
from ..report.adaptation import Pictures, adaptation_page
from ..report.rendering import write_page
from ..train.wake_sleep import Gain, WakeSleepProgress, WakeSleepSettings
from .adaptation_quality import Quality
from .adaptation_windows import INNER, check_light, check_movie, is_told, share_out
from .adaptation_work import Order, Work

MUCH_LEFT = 1.5  # chi2 from which on frames hold more than noise


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What an adaptation left behind.

    Args:
        file: the model file; None where it was refused.
        model: adapted, whether it was written or not.
        refused: why no model was written, or None.
        gain: of the bound of held-out frames that had no part in choosing the state, model and theta together, nats per frame.
        network_gain: the same for the network alone, both seen with the new theta.
        theta: what was learned, before and after.
        quality: what the models make of the held-out frames, before and after.
        warnings: what the user should know.
        steps, seconds: rounds and their time, all sessions together.
        page: the report, or None.
    """

    file: Path | None
    model: Model
    refused: str | None
    gain: Gain
    network_gain: Gain
    theta: tuple[Mapping[str, float], Mapping[str, float]]
    quality: tuple[Quality, Quality]
    warnings: list[str] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    page: Path | None = None


def adapt(
    model: Model | Path | str,
    movie: Movie | Path | str,
    out: Path | str,
    *,
    minutes: float | None = None,
    samples: int | None = None,
    learn_psf: bool = True,
    settings: WakeSleepSettings | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    camera: Camera | None = None,
    planes: int | None = None,
    frames: tuple[int | None, int | None] | None = None,
    roi_px: tuple[int, int, int, int] | None = None,
    device: str | None = None,
    resume: bool = False,
    page: bool = True,
    prepared: Callable[[Preparation], None] = lambda _: None,
    report: Callable[[WakeSleepProgress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    stop: Callable[[], int] = lambda: 0,
    clock: Callable[[], float] = time.monotonic,
) -> Adaptation:
    """Take a trained model to a real movie: the PSF is fitted to its molecules, the network learns from simulations with that PSF.

    With `settings` of other phases the network learns from the frames themselves too (wake-sleep). The movie may be the one that is to be
    localized (variational inference), or one of many of its kind (amortised). Every sixth block of frames is held out, in short movies up to
    every third. Half of these show how it goes, and with wake steps choose the best state; the adapted model is written only if it explains the
    other half better than the model that it began with.

    Args:
        model: a model of method decode, its file or the name of a shipped one.
        movie: a movie or its file or folder.
        out: model file to write, ending in .safetensors; a checkpoint and the page are written beside it.
        minutes: of work, 12 if None; the number of rounds follows from the time that the first ones take, and is that of the checkpoint on going on.
        samples: sets of emitters drawn for each frame (K); None for the usual number. Fewer where memory is short; a checkpoint keeps its number.
        learn_psf: learn the PSF too.
        settings: the whole schedule, in place of minutes, samples and learn_psf; None for the usual one.
        pixel_size_nm, camera, planes, roi_px: as for `localize`.
        frames: (start, stop) of the frames to learn from.
        device: "cpu", "cuda", ...; the best one there is if None.
        resume: go on from the checkpoint.
        page: write the page (.html) beside the model.
        prepared: told, before the first round, what was measured and assumed.
        report: told after each round how it goes.
        say: told what was decided on the way.
        stop: asked after each round; a signal number ends the run with a checkpoint.

    Raises:
        ModelError: the model gives no posterior, or does not suit the movie.
        MovieError: too short to judge by, without molecules, saturated.
        OutputError, TrainingError: the file cannot be written; an unfinished adaptation is in the way, or is of another one.
        Interrupted: ``stop`` asked for it.
    """
    target, html = _targets(out, page, minutes)
    order = Order(
        settings, minutes, samples, learn_psf, camera, choose_device(device), target.with_suffix(".checkpoint"), resume, say, clock
    )
    with alone(target):
        _check_unfinished(order)
        given = _given(model)
        opened = movie if isinstance(movie, Movie) else open_movie(Path(movie))
        opened = (opened if planes is None else opened.with_planes(planes)).crop(frames, roi_px)
        keep_memory()
        check_movie(opened)
        shares = share_out(opened, given.localizer)
        ready = prepare(opened, given, pixel_size_nm, camera)
        check_light(opened, ready)
        prepared(ready)
        work = Work(opened, ready, shares, order)
        _through(work, report, stop)
        made = _finished(work, target, html, opened)
        order.checkpoint.unlink(missing_ok=True)
    return made


def _check_unfinished(order: Order) -> None:
    """Refuse to write over an unfinished adaptation."""
    if order.checkpoint.exists() and not order.resume:
        raise TrainingError(
            f"{order.checkpoint} holds unfinished work; go on with it (--resume, in Python resume=True), or remove it to begin anew"
        )


def _targets(out: Path | str, page: bool, minutes: float | None) -> tuple[Path, Path | None]:
    """Check, before the work, what can be checked without model and movie; give the model's file and that of the page."""
    target = Path(out)
    if target.suffix != SUFFIX:
        raise OutputError(f"model file {target.name}: expected a name that ends in {SUFFIX}")
    if minutes is not None and not 0 < minutes < math.inf:
        raise TrainingError(f"{minutes:g} minutes; expected a number above 0 (--minutes)")
    html = target.with_suffix(".html") if page else None
    for file in (target, *((html,) if html else ())):
        check_writable(file)
    return target, html


def _given(model: Model | Path | str) -> Model:
    """Find the model, and refuse one whose network draws no emitters."""
    given = model if isinstance(model, Model) else find_model(model)
    if not isinstance(given.localizer, InferringLocalizer):
        raise ModelError(
            f"model {given.name} is of method '{given.experiment.localizer.kind}', which gives no distribution over emitters; adapt takes models "
            "of method 'decode'"
        )
    channels = given.localizer.scales.channels
    if channels > 1:
        raise ModelError(
            f"model {given.name} tells {channels} colours, which adapt cannot learn from a movie; localize with it as it is"
        )
    return given


def _through(work: Work, report: Callable[[WakeSleepProgress], None], stop: Callable[[], int]) -> None:
    """Take all rounds, or stop with a checkpoint."""
    loop = work.loop
    loop.run(report, stop=lambda: bool(stop()))
    if not loop.is_done:
        raise Interrupted(
            f"stopped after round {loop.step} of {loop.settings.steps}; {work.order.checkpoint.name} is kept, the same command with --resume "
            "goes on",
            128 + (stop() or 2),
        )


def _finished(work: Work, target: Path, page: Path | None, movie: Movie) -> Adaptation:
    """Judge, write the model if it is better, and the page."""
    loop, judged = work.loop, work.judged()
    adapted = work.adapted(target.stem, judged)
    quality, pictures = work.qualities()
    adapted.localizer.cpu()
    made = Adaptation(
        file=None if judged.refused else target,
        model=adapted,
        refused=judged.refused,
        gain=judged.gain,
        network_gain=judged.network_gain,
        theta=(loop.first_theta.values(), loop.theta.values()),
        quality=quality,
        warnings=[*loop.theta.at_bounds(psf=False), *_doubts(*quality)],
        steps=loop.step,
        seconds=loop.seconds,
        page=page,
    )
    if made.file is not None:
        save_model(made.file, adapted)
    if page is not None:
        write_page(page, _page(made, work, movie, pictures))
    return made


def _doubts(before: Quality, after: Quality) -> list[str]:
    """Say what looks wrong although the bound is better."""
    doubts = []
    if after.per_frame < 0.7 * before.per_frame:
        doubts.append(
            f"the adapted model finds {after.per_frame:.1f} molecules in a window where there were {before.per_frame:.1f}; look at the page"
        )
    if after.chi2 > 1.02 * before.chi2:
        doubts.append(f"chi2 per pixel of the held-out frames rose from {before.chi2:.3f} to {after.chi2:.3f}; look at the page")
    if after.chi2 > MUCH_LEFT:
        doubts.append(
            f"chi2 per pixel of the held-out frames is {after.chi2:.3g}, where 1 is ideal: much light is left unexplained; look whether "
            "camera (--camera), pixel size and PSF are right"
        )
    return doubts


def _page(made: Adaptation, work: Work, movie: Movie, pictures: tuple[Pictures, Pictures]) -> str:
    """Draw the page."""
    loop, windows = work.loop, work.windows
    told = "is told the conditions of each movie" if is_told(loop.localizer) else "has its conditions built in"
    does = "show how it goes" if loop.settings.phases == "sleep" else "choose the best state"
    side, shown = windows.learn.photons.shape[-1], f"each with {INNER} frames that count"
    run = {
        "model": f"{work.ready.model.name} ({told})",
        "movie": f"{movie.name}, {movie.n_frames} frames",
        "learned from": f"{len(windows.learn)} windows of {side} x {side} px, {shown}",
        "held out": f"{len(windows.choose)} windows that {does}, {len(windows.judge)} others that judge it",
        "rounds": f"{made.steps} of {loop.settings.steps}, {made.seconds / 60:.1f} min",
        "sets for each frame (K)": str(loop.settings.samples),
        "made for many microscopes": "yes" if serves_many(work.ready.model.experiment) else "no",
    }
    return adaptation_page(
        title=f"{work.ready.model.name} adapted to {movie.name}",
        refused=made.refused,
        warnings=made.warnings,
        gain=(made.gain.mean, made.gain.error),
        network_gain=(made.network_gain.mean, made.network_gain.error),
        theta=made.theta,
        quality=(asdict(made.quality[0]), asdict(made.quality[1])),
        psfs=(work.first_psf.cpu(), loop.theta.psf.cpu()),
        depths_nm=work.document.specimen.z_nm,
        history=loop.history,
        kept_step=loop.kept_step,
        frames=pictures,
        run=run,
    )
