"""Adapt a model that learned from simulations to a real movie, and refuse where that makes nothing better."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from ..camera import Camera
from ..data import Movie
from ..errors import Interrupted, ModelError, OutputError, TrainingError
from ..experiment import Experiment
from ..files import alone, check_writable
from ..formats import open_movie
from ..localize import TrainableLocalizer
from ..machine import choose_device, keep_memory
from ..model_file import SUFFIX, Model, find_model, save_model
from ..optics import PSF
from ..preparation import Preparation, prepare, serves_many
from ..report.adaptation import adaptation_page
from ..report.rendering import write_page
from ..train import recalibrate as put_right
from ..train.checkpoint import settings_of
from ..train.recalibrate import HELD_OUT
from ..train.theta import Theta
from ..train.wake import Noise
from ..train.wake_sleep import Gain, WakeSleep, WakeSleepProgress, WakeSleepSettings, samples_that_fit
from .adaptation_parts import (
    INNER,
    Quality,
    beginning_of,
    check_light,
    check_movie,
    document_for,
    gather,
    is_told,
    localizer_for,
    quality_of,
)

MINUTES = 12.0
TIMED = 3  # rounds by which the time of a round is known
LEAST_STEPS, MOST_STEPS = 20, 20000
RESERVED = 0.85  # of the minutes that the rounds may take; the rest is for looking at held-out frames
RECALIBRATION_BATCHES = 20
MEMORY_SHARE = 0.4
ASSUMED_MEMORY = 2 << 30


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What an adaptation left behind.

    Args:
        file: the model file; None where it was refused.
        model: adapted, whether it was written or not.
        refused: why no model was written, or None.
        gain: of the bound of held-out frames, model and theta together, nats per frame.
        network_gain: the same for the network alone, both seen with the new theta.
        theta: what was learned, before and after.
        quality: what the models make of the held-out frames, before and after.
        warnings: what the user should know.
        steps, seconds: of the adaptation.
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
    minutes: float = MINUTES,
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
) -> Adaptation:
    """Take a trained model to a real movie: network, PSF and rates learn from its frames and from simulations in turn (wake-sleep).

    The movie may be the one that is to be localized (variational inference), or one of many of its kind (amortised). Every sixth block of
    frames is held out; the adapted model is written only if it explains those better than the model that it began with.

    Args:
        model: a model of method decode, its file or the name of a shipped one.
        movie: a movie or its file or folder.
        out: model file to write, ending in .safetensors; a checkpoint and the page are written beside it.
        minutes: of work; the number of rounds follows from the time that the first ones take.
        samples: sets of emitters drawn for each frame (K); None for the usual number.
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
        MovieError: too short, without molecules, saturated.
        OutputError, TrainingError: the file cannot be written; an unfinished adaptation is in the way.
        Interrupted: ``stop`` asked for it.
    """
    target = Path(out)
    if target.suffix != SUFFIX:
        raise OutputError(f"model file {target.name}: expected a name that ends in {SUFFIX}")
    if not 0 < minutes < math.inf:
        raise TrainingError(f"{minutes:g} minutes; expected a number above 0 (--minutes)")
    check_writable(target)
    checkpoint = target.with_suffix(".checkpoint")
    if checkpoint.exists() and not resume:
        raise TrainingError(
            f"{checkpoint} holds unfinished work; go on with it (--resume, in Python resume=True), or remove it to begin anew"
        )
    given = model if isinstance(model, Model) else find_model(model)
    if not isinstance(given.localizer, TrainableLocalizer) or not hasattr(given.localizer, "posterior_of_windows"):
        raise ModelError(
            f"model {given.name} is of method '{given.experiment.localizer.kind}', which gives no distribution over emitters; adapt takes models "
            "of method 'decode'"
        )
    if given.localizer.scales.channels > 1:
        raise ModelError(
            f"model {given.name} tells {given.localizer.scales.channels} colours, which adapt cannot learn from a movie; localize with it as it is"
        )
    opened = movie if isinstance(movie, Movie) else open_movie(Path(movie))
    opened = (opened if planes is None else opened.with_planes(planes)).crop(frames, roi_px)
    keep_memory()
    chosen = choose_device(device)
    check_movie(opened)
    ready = prepare(opened, given, pixel_size_nm, camera)
    check_light(opened, ready)
    prepared(ready)
    with alone(target):
        usual = WakeSleepSettings(learn_psf=learn_psf, seed=given.experiment.training.seed)
        usual = usual if samples is None else usual.model_copy(update={"samples": samples})
        work = _Work(opened, ready, camera, settings or usual, None if settings else minutes, chosen, checkpoint, resume, say)
        started = time.monotonic()
        work.loop.run(report, stop=lambda: bool(stop()))
        if not work.loop.is_done:
            work.loop.save()
            raise Interrupted(
                f"stopped after round {work.loop.step} of {work.loop.settings.steps}; {checkpoint.name} is kept, the same command with --resume "
                "goes on",
                128 + (stop() or 2),
            )
        made = work.finish(target, say, time.monotonic() - started)
        if page:
            written = target.with_suffix(".html")
            write_page(written, _page(made, work, opened))
            made = replace(made, page=written)
        checkpoint.unlink(missing_ok=True)
    return made


class _Work:
    """Everything that an adaptation holds between its beginning and its end."""

    def __init__(
        self,
        movie: Movie,
        ready: Preparation,
        camera: Camera | None,
        wanted: WakeSleepSettings,
        minutes: float | None,
        device: torch.device,
        checkpoint: Path,
        resume: bool,
        say: Callable[[str], None],
    ) -> None:
        self.ready, self.device = ready, device
        localizer = localizer_for(ready)
        assert isinstance(localizer, TrainableLocalizer)
        self.document = document_for(ready, camera, INNER + 2 * localizer.context)
        self.noise = Noise(ready.conditions.excess, ready.conditions.noise_variance)
        kept = settings_of(checkpoint) if resume else None
        self.windows, self.held_out = gather(movie, ready, localizer, wanted.seed)
        wanted = self._within_memory(wanted, say)
        psf: PSF = self.document.psf.build(self.document.pixel_size_nm)
        self.first_psf = copy.deepcopy(psf)
        mark = _mark(ready, movie)

        def loop(schedule: WakeSleepSettings, keep: Path | None) -> WakeSleep:
            learner, law = copy.deepcopy(localizer), copy.deepcopy(psf)
            assert isinstance(learner, TrainableLocalizer)
            theta = Theta(law, learner.scales, beginning_of(ready, self.document), learn_psf=schedule.learn_psf)
            simulator = self.document.build_simulator(learner, device)
            return WakeSleep(learner, theta, simulator, self.windows, self.held_out, self.noise, schedule, device, keep, mark)

        if minutes is not None and kept is not None:
            wanted = WakeSleepSettings.model_validate(kept)
        elif minutes is not None:
            steps = _steps(loop(wanted.model_copy(update={"theta_first": 0.0}), None), minutes)
            wanted = wanted.model_copy(update={"steps": steps})
            say(f"{steps} rounds fit into {minutes:g} minutes")
        self.before = copy.deepcopy(localizer).to(device).eval()
        self.loop = loop(wanted, checkpoint)
        if not self.loop.theta.learned and wanted.learn_psf:
            say(f"a PSF of kind '{self.document.psf.model_dump()['kind']}' is kept as it is; the rest is learned")
        if resume:
            self.loop.resume()

    def _within_memory(self, wanted: WakeSleepSettings, say: Callable[[str], None]) -> WakeSleepSettings:
        """Draw fewer sets where those asked for do not fit."""
        frames, pixels = wanted.windows * INNER, math.prod(self.windows.photons.shape[2:])
        fit = samples_that_fit(wanted.samples, frames, pixels, int(MEMORY_SHARE * free_memory(self.device)))
        if fit == wanted.samples:
            return wanted
        say(f"{fit} sets of emitters are drawn for each frame in place of {wanted.samples}, which do not fit into the memory")
        return wanted.model_copy(update={"samples": fit, "trials": min(wanted.trials, max(1, fit // 2))})

    def finish(self, target: Path, say: Callable[[str], None], seconds: float) -> Adaptation:
        """Judge, correct the uncertainties, and write the model if it is better."""
        loop, theta = self.loop, self.loop.theta
        old, new = loop.bound(self.before, loop.first_theta), loop.bound(loop.localizer, theta)
        gain, alone = Gain.of(new, old), Gain.of(new, loop.bound(self.before, theta))
        document = self._learned()
        refused = _refusal(gain, alone)
        record = dict(self.ready.model.record)
        localizer = loop.localizer.eval()
        if refused is None:
            say("counting the errors of the adapted model on simulations with the new PSF")
            simulator = document.build_simulator(localizer, self.device)
            found = put_right(localizer, simulator, document.training.seed + HELD_OUT, batches=RECALIBRATION_BATCHES)
            localizer.correction = found.correction
            record["uncertainty"] = found.to_json()
        factors = [math.exp(float(t.log_background.detach())) for t in (loop.first_theta, theta)]
        camera = loop.simulator.microscope.camera
        held = loop.held_out
        quality_before, self.pictures_before = quality_of(
            self.before, self.first_psf.to(self.device), factors[0], held, self.noise, camera
        )
        told = loop.told(held)
        quality_after, self.pictures_after = quality_of(localizer, theta.psf, factors[1], told, self.noise, camera)
        record["adapted"] = {
            "from": self.ready.model.name,
            "movie": self.ready.measured.to_json(),
            "settings": loop.settings.model_dump(mode="json"),
            "gain": asdict(gain),
            "network_gain": asdict(alone),
            "history": loop.history,
        }
        adapted = Model(localizer.cpu(), document, record, target.stem)
        made = Adaptation(
            file=None if refused else target,
            model=adapted,
            refused=refused,
            gain=gain,
            network_gain=alone,
            theta=(loop.first_theta.values(), theta.values()),
            quality=(quality_before, quality_after),
            warnings=[*theta.at_bounds(), *_doubts(quality_before, quality_after)],
            steps=loop.step,
            seconds=seconds,
        )
        if refused is None:
            save_model(target, adapted)
        return made

    def _learned(self) -> Experiment:
        """Put the learned PSF into the document."""
        return self.document.model_copy(update={"psf": self.loop.theta.psf.described()})


def _refusal(gain: Gain, network: Gain) -> str | None:
    """Say why an adapted model is not written, or None."""
    if not gain.is_certain:
        return (
            f"the held-out frames are explained no better than before ({gain.mean:+.2f} ± {gain.error:.2f} nats per frame): the model suits the "
            "movie as it is, or the movie does not teach it more"
        )
    if network.mean < -2 * network.error:
        return (
            f"microscope and rates were learned, but the network explains the held-out frames worse than before ({network.mean:+.2f} ± "
            f"{network.error:.2f} nats per frame): give more time (--minutes), or train anew with the PSF learned"
        )
    return None


def _doubts(before: Quality, after: Quality) -> list[str]:
    """Say what looks wrong although the bound is better."""
    doubts = []
    if after.per_frame < 0.7 * before.per_frame:
        doubts.append(
            f"the adapted model finds {after.per_frame:.1f} molecules in a window where there were {before.per_frame:.1f}; look at the page"
        )
    if after.chi2 > 1.02 * before.chi2:
        doubts.append(f"chi2 per pixel of the held-out frames rose from {before.chi2:.3f} to {after.chi2:.3f}; look at the page")
    return doubts


def _steps(trial: WakeSleep, minutes: float) -> int:
    """Time some rounds, and say how many fit."""
    trial.one_round()
    began = time.monotonic()
    for _ in range(TIMED):
        trial.one_round()
    each = max((time.monotonic() - began) / TIMED, 1e-4)
    return min(MOST_STEPS, max(LEAST_STEPS, round(RESERVED * 60 * minutes / each)))


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return ASSUMED_MEMORY


def _mark(ready: Preparation, movie: Movie) -> str:
    """Identify what a checkpoint belongs to."""
    digest = hashlib.sha256()
    for name, value in sorted(ready.model.localizer.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    said = [
        ready.model.experiment.to_json(),
        str(movie.path or movie.name),
        movie.frames,
        movie.roi_px,
        ready.pixel_size_nm,
        ready.camera_json,
    ]
    digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()


def _page(made: Adaptation, work: _Work, movie: Movie) -> str:
    """Draw the page."""
    low, high = work.document.specimen.z_nm
    told = "is told the conditions of each movie" if is_told(work.loop.localizer) else "has its conditions built in"
    run = {
        "model": f"{work.ready.model.name} ({told})",
        "movie": movie.name,
        "frames": f"{movie.n_frames}, {len(work.held_out) * INNER} held-out ones looked at in windows of {work.windows.photons.shape[-1]} px",
        "rounds": f"{made.steps} of {work.loop.settings.steps}, {made.seconds / 60:.1f} min",
        "sets for each frame (K)": str(work.loop.settings.samples),
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
        psfs=(work.first_psf.cpu(), work.loop.theta.psf.cpu()),
        depths_nm=(low, high),
        history=work.loop.history,
        frames=(work.pictures_before, work.pictures_after),
        run=run,
    )
