"""The work of an adaptation: what was asked for and what fits, the loop, and the judgement by frames that had no part in it."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ..camera import Camera
from ..data import Movie
from ..errors import TrainingError
from ..experiment import Experiment
from ..localize import InferringLocalizer
from ..machine import free_bytes
from ..model_file import Model
from ..optics import PSF
from ..preparation import Preparation
from ..report.adaptation import Pictures
from ..train import recalibrate as put_right
from ..train.checkpoint import settings_of
from ..train.recalibrate import HELD_OUT
from ..train.theta import Theta
from ..train.wake import Noise
from ..train.wake_sleep import Gain, WakeSleep, WakeSleepSettings, samples_that_fit
from .adaptation_document import beginning_of, document_for, localizer_for
from .adaptation_quality import Quality, quality_of
from .adaptation_windows import INNER, Shares, gather

MINUTES = 12.0
TIMED = 3  # rounds by which the time of a round is known
LEAST_STEPS, MOST_STEPS = 20, 20000
RESERVED = 0.85  # of the minutes that the rounds may take; the rest is for looking at held-out frames
RECALIBRATION_BATCHES = 20
MEMORY_SHARE = 0.4
MUCH_WORSE = 1.05  # chi2 after over that before
MUCH_MISFIT = 0.15
"""Above this the kind of PSF is wrong: where it is right some percent are left, and 30 where a plane is learned of molecules out of focus."""


@dataclass(frozen=True)
class Order:
    """What was asked for besides model and movie; arguments as in `adapt`.

    Args:
        settings: the whole schedule, or None for the usual one.
        minutes, samples: None where nothing was said.
        learn_psf: learn the PSF too.
        camera: that the user gave, or None.
        device: where to work.
        checkpoint: its file.
        resume: go on from it.
        say: told what was decided.
        clock: seconds by which rounds are counted out.
    """

    settings: WakeSleepSettings | None
    minutes: float | None
    samples: int | None
    learn_psf: bool
    camera: Camera | None
    device: torch.device
    checkpoint: Path
    resume: bool
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic

    def wanted(self, seed: int) -> WakeSleepSettings:
        """Give the schedule, its rounds not counted yet."""
        if self.settings is not None:
            return self.settings
        usual = WakeSleepSettings(phases="sleep", learn_psf=self.learn_psf, seed=seed)
        return usual if self.samples is None else usual.model_copy(update={"samples": self.samples})

    def kept(self) -> WakeSleepSettings | None:
        """Give the schedule that the checkpoint goes on with; None where it begins from the beginning.

        Raises:
            TrainingError: another one was asked for.
        """
        values = settings_of(self.checkpoint) if self.resume else None
        try:
            kept = None if values is None else WakeSleepSettings.model_validate(values)
        except ValidationError:  # taking it up says what is wrong with it
            return None
        if kept is None:
            return None
        samples = self.samples if self.settings is None else self.settings.samples
        if samples is not None and samples < kept.samples:
            raise TrainingError(
                f"{self.checkpoint.name} was begun with {kept.samples} sets for each frame, {samples} are asked for; ask for as many (--samples), or "
                "remove it to begin anew"
            )
        if kept.learn_psf and not (self.learn_psf if self.settings is None else self.settings.learn_psf):
            raise TrainingError(
                f"{self.checkpoint.name} learns the PSF, which is to be kept now; leave that out (--keep-psf), or remove it to begin anew"
            )
        if self.settings is None:
            return kept
        return self.settings.model_copy(update={"samples": kept.samples, "trials": kept.trials})


@dataclass(frozen=True, eq=False)
class Judged:
    """What the frames that judge say of it.

    Args:
        gain: of model and theta together.
        network_gain: of the network alone, both seen with the new theta.
        misfit: relative error of molecules' light that the fitted PSF leaves; 0 where none was fitted.
        at_bounds: what of the PSF ran to its bound, one line each.
        chi2: per pixel, of what was found before and after.
        psf_moved: whether the PSF was free to move.
    """

    gain: Gain
    network_gain: Gain
    misfit: float
    at_bounds: tuple[str, ...]
    chi2: tuple[float, float]
    psf_moved: bool = True

    @property
    def refused(self) -> str | None:
        """Why the adapted model is not written, or None."""
        if self.misfit > MUCH_MISFIT and not self.psf_moved:
            return (
                f"the model's PSF, which is kept, misses {100 * self.misfit:.0f} % of the light of the movie's molecules: it is not theirs; "
                "calibrate it from beads, or take a model whose PSF can be learned (without --keep-psf)"
            )
        if self.misfit > MUCH_MISFIT:
            return (
                f"the PSF that fits the movie's molecules best misses {100 * self.misfit:.0f} % of their light: they look too different from each "
                "other for a PSF of this kind, as molecules out of focus do for a model without depth; take a model whose PSF has depth, or "
                "calibrate one from beads"
            )
        if self.at_bounds:
            return f"{self.at_bounds[0]}: the movie has another PSF, or other pixels, than the model"
        before, after = self.chi2
        if after > MUCH_WORSE * before:
            return (
                f"what the adapted model finds explains the held-out frames worse (chi2 {after:.3f} per pixel, {before:.3f} before), although the "
                "bound says otherwise: the movie is too crowded or too different to learn from"
            )
        if self.gain.mean == self.gain.error == 0:
            return (
                "no state on the way explains held-out frames better than the model as it is: it suits the movie, or the movie does "
                "not teach it more"
            )
        if not self.gain.is_certain:
            return (
                f"the held-out frames are explained no better than before ({self.gain.mean:+.2f} ± {self.gain.error:.2f} nats per frame): the model "
                f"suits the movie as it is, or differs in what cannot be learned from it (chi2 {after:.2f} per pixel; far above 1 speaks for that)"
            )
        if self.network_gain.mean < -2 * self.network_gain.error:
            return (
                "microscope and rates were learned, but the network explains the held-out frames worse than before "
                f"({self.network_gain.mean:+.2f} ± {self.network_gain.error:.2f} nats per frame): give more time (--minutes), or train anew with "
                "the PSF learned"
            )
        return None


class Work:
    """Everything that an adaptation holds between its beginning and its end.

    Args:
        movie: frames to learn from.
        ready: model, camera and conditions.
        shares: which frames learn, choose and judge.
        order: what was asked for.

    Attributes:
        loop: the adaptation.
        windows: by what they are for.
        before: the localizer as it was.
        first_psf: the PSF as it was.
    """

    def __init__(self, movie: Movie, ready: Preparation, shares: Shares, order: Order) -> None:
        self.ready, self.order = ready, order
        self.localizer = localizer_for(ready)
        assert isinstance(self.localizer, InferringLocalizer)
        self.document = document_for(ready, order.camera, INNER + 2 * self.localizer.context)
        self.noise = Noise(ready.conditions.excess, ready.conditions.noise_variance)
        kept = order.kept()
        wanted = kept or order.wanted(ready.model.experiment.training.seed)
        self.windows = gather(movie, ready, self.localizer, shares, wanted.seed)
        self.mark = _mark(ready, movie, shares)
        psf: PSF = self.document.psf.build(self.document.pixel_size_nm)
        self.first_psf = copy.deepcopy(psf)
        self.before = copy.deepcopy(self.localizer).to(order.device).eval()
        self.loop = self._loop(kept or self._planned(wanted), order.checkpoint)
        if not self.loop.theta.learned and self.loop.settings.learn_psf:
            order.say(f"a PSF of kind '{self.document.psf.model_dump()['kind']}' is kept as it is; the rest is learned")
        if order.resume:
            self._go_on()

    def _loop(self, schedule: WakeSleepSettings, checkpoint: Path | None) -> WakeSleep:
        """Make a loop with a localizer and a PSF of its own."""
        learner, law = copy.deepcopy(self.localizer), copy.deepcopy(self.first_psf)
        assert isinstance(learner, InferringLocalizer)
        theta = Theta(law, learner.scales, beginning_of(self.ready, self.document), learn_psf=schedule.learn_psf)
        simulator = self.document.build_simulator(learner, self.order.device)
        learn, choose = self.windows.learn, self.windows.choose
        return WakeSleep(learner, theta, simulator, learn, choose, self.noise, schedule, self.order.device, checkpoint, self.mark)

    def _planned(self, wanted: WakeSleepSettings) -> WakeSleepSettings:
        """Draw as many sets as fit into memory, and take as many rounds as fit into the minutes."""
        say, pixels = self.order.say, math.prod(self.windows.learn.photons.shape[2:])
        free = free_bytes(self.order.device)
        fit = samples_that_fit(wanted.samples, wanted.windows * INNER, pixels, MEMORY_SHARE * free)
        if fit < wanted.samples:
            say(
                f"{fit} sets of emitters are drawn for each frame (K) in place of {wanted.samples}: {free / 1e9:.2g} GB of memory are free"
            )
            wanted = wanted.model_copy(update={"samples": fit, "trials": min(wanted.trials, max(1, fit // 2))})
        if self.order.settings is not None:
            return wanted
        minutes = MINUTES if self.order.minutes is None else self.order.minutes
        steps = steps_that_fit(self._loop(wanted.model_copy(update={"theta_first": 0.0}), None), minutes, self.order.clock)
        say(f"{steps} rounds fit into {minutes:g} minutes")
        return wanted.model_copy(update={"steps": steps})

    def _go_on(self) -> None:
        """Take up the checkpoint, and say what that means."""
        loop, say = self.loop, self.order.say
        if not loop.resume():
            say(f"there is no {self.order.checkpoint.name} to go on from; it begins from the beginning")
            return
        k = loop.settings.samples
        say(f"going on after round {loop.step} of {loop.settings.steps}, with {k} sets of emitters for each frame (K)")
        if self.order.minutes is not None:
            say("the rounds are those that were planned at first; --minutes counts only for a new adaptation")

    def judged(self) -> Judged:
        """Compare the best state with the beginning by the windows that had no part in choosing it."""
        loop, judge = self.loop, self.windows.judge.to(self.order.device)
        before, after = self.qualities()[0]
        chi2 = (before.chi2, after.chi2)

        def bound(localizer: InferringLocalizer, theta: Theta) -> Tensor:
            return loop.bound(localizer, theta, judge)

        assert isinstance(self.before, InferringLocalizer)
        new = bound(loop.localizer, loop.theta)
        return Judged(
            Gain.of(new, loop.bound_before(judge)),
            Gain.of(new, bound(self.before, loop.theta)),
            float(loop.theta.misfit),
            tuple(loop.theta.at_bounds(psf=True)),
            chi2,
            psf_moved=bool(loop.theta.learned),
        )

    def qualities(self) -> tuple[tuple[Quality, Quality], tuple[Pictures, Pictures]]:
        """Say what the models before and after make of the windows that judge, and show some."""
        loop, judge = self.loop, self.windows.judge.to(self.order.device)
        camera, psf = loop.simulator.microscope.camera, self.first_psf.to(self.order.device)
        factors = [math.exp(float(theta.log_background.detach())) for theta in (loop.first_theta, loop.theta)]
        before, pictures_before = quality_of(self.before, psf, factors[0], judge, self.noise, camera)
        after, pictures_after = quality_of(loop.localizer, loop.theta.psf, factors[1], loop.told(judge), self.noise, camera)
        return (before, after), (pictures_before, pictures_after)

    def adapted(self, name: str, judged: Judged) -> Model:
        """Make the model, with its uncertainties put right if it is to be written."""
        loop, record = self.loop, dict(self.ready.model.record)
        document, localizer = self._learned(), loop.localizer.eval()
        if judged.refused is None:
            self.order.say("counting the errors of the adapted model on simulations with the new PSF")
            simulator = document.build_simulator(localizer, self.order.device)
            found = put_right(localizer, simulator, document.training.seed + HELD_OUT, batches=RECALIBRATION_BATCHES)
            localizer.correction = found.correction
            record["uncertainty"] = found.to_json()
        record["adapted"] = self._record(judged)
        return Model(localizer, document, record, name)

    def _learned(self) -> Experiment:
        """Put the learned PSF into the document."""
        return self.document.model_copy(update={"psf": self.loop.theta.psf.described()})

    def _record(self, judged: Judged) -> dict[str, Any]:
        """Say where the model came from."""
        return {
            "from": self.ready.model.name,
            "movie": self.ready.measured.to_json(),
            "settings": self.loop.settings.model_dump(mode="json"),
            "gain": asdict(judged.gain),
            "network_gain": asdict(judged.network_gain),
            "history": self.loop.history,
        }


def steps_that_fit(trial: WakeSleep, minutes: float, clock: Callable[[], float]) -> int:
    """Time some rounds, the first with a fit of the PSF, and say how many fit."""
    began = clock()
    trial.one_round()
    fits = trial.settings.psf_fits * (clock() - began)
    trial.step, began = 1, clock()
    for _ in range(TIMED):
        trial.one_round()
    each = max((clock() - began) / TIMED, 1e-4)
    return min(MOST_STEPS, max(LEAST_STEPS, round((RESERVED * 60 * minutes - fits) / each)))


def _mark(ready: Preparation, movie: Movie, shares: Shares) -> str:
    """Identify what a checkpoint belongs to: model, movie, and which of its frames choose and judge."""
    said = [
        ready.model.fingerprint,
        ready.model.experiment.to_json(),
        str(movie.path or movie.name),
        movie.frames,
        movie.roi_px,
        ready.pixel_size_nm,
        ready.camera_json,
        asdict(shares),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
