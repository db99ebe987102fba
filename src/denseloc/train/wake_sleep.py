"""Wake-sleep: a localizer and the parameters of its microscope learned from a movie and from simulations in turn.

A wake step looks at frames of the movie: theta climbs the likelihood of what the network sees in them, the network learns the sets
that explain them best (auto-encoder learning). A sleep step is one of simulator learning, with the PSF that theta has now. Both
together are the reweighted wake-sleep of the paper. Its PSF moves with the wake steps; here it may instead be fitted to molecules of
the movie, at first and now and then (`in_situ`), which takes seconds and does not follow the network's errors.

Against collapse: bounds on theta, a divergence to the network as it was before, and held-out frames that choose the best state and end
what gains no more. With sleep alone the last state is kept, not the best.

Source: Speiser, Turaga, Macke 2019, sections 1.6 and 1.7; Bornschein and Bengio, arXiv 1406.2751. Ours: the anchor, the PSF's fits.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..description import Section
from ..errors import TrainingError
from ..localize import InferringLocalizer
from ..localize.draws import divergence
from ..microscope import Microscope
from .checkpoint import load_checkpoint, save_checkpoint
from .gain import Gain
from .in_situ import fit_in_situ, see
from .optimizers import network_optimizers
from .simulate import Simulator
from .theta import Theta
from .wake import Look, MovieWindows, Noise, Waking

MOST_SKIPPED = 20
NUMBERS_PER_SET = 40  # numbers of 4 bytes that a set takes at its peak, per pixel of a frame


class WakeSleepSettings(Section):
    """How a localizer is adapted to a movie."""

    steps: int = Field(600, ge=1, description="rounds: a wake step, and the sleep steps that go with it")
    phases: Literal["both", "wake", "sleep"] = Field(
        "both", description="both: reweighted wake-sleep; wake: auto-encoder learning; sleep: simulator learning"
    )
    samples: int = Field(32, ge=2, le=4096, description="sets of emitters drawn for each frame (K)")
    trials: int = Field(2, ge=1, le=64, description="independent sets among them that are learned from")
    zoned: bool = Field(True, description="draw windows zone by zone; else whole, as in the paper")
    windows: int = Field(6, ge=1, le=4096, description="windows of the movie in a wake step")
    sleep_batch: int = Field(24, ge=1, le=4096, description="simulated windows in a sleep step")
    sleeps: int = Field(1, ge=0, le=16, description="sleep steps in a round; 0 is as phases = 'wake'")
    learn_psf: bool = Field(True, description="learn the PSF's shape too")
    psf_fits: int = Field(
        3,
        ge=0,
        le=100,
        description="times that the PSF is fitted to molecules of the movie, evenly from the first round on; 0: wake steps move it, as in the paper",
    )
    theta_first: float = Field(0.0, ge=0, le=1, description="share of the rounds at the beginning in which only theta moves")
    learning_rate: float = Field(1.2e-3, gt=0, description="largest rate of AdamW")
    muon_rate: float = Field(0.01, ge=0, description="largest rate of Muon, for hidden weights; 0 for AdamW alone")
    theta_rate: float = Field(0.02, gt=0, description="largest step of theta, relative to each parameter's size")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the running average of the weights, which is what is kept")
    clip: float = Field(5.0, gt=0, description="largest norm of the network's gradient")
    consistency: float = Field(1.0, ge=0, description="weight of squared differences of places in consecutive frames")
    anchor: float = Field(0.01, ge=0, description="weight of the divergence to the network as it was before")
    checks: int = Field(10, ge=1, description="times that held-out frames are looked at")
    patience: int = Field(5, ge=1, description="checks without gain after which it ends, where wake steps are taken")
    seed: int = 0

    @model_validator(mode="after")
    def _does_something(self) -> WakeSleepSettings:
        if self.phases == "sleep" and self.sleeps == 0:
            raise ValueError("phases = 'sleep' with sleeps = 0 does nothing; give sleeps = 1 or more, or other phases")
        return self


@dataclass
class WakeSleepProgress:
    """How an adaptation stands.

    Args:
        step, steps: rounds done and planned.
        gain: of the held-out bound over the beginning, nats per frame; None before the first check.
        effective: effective number of candidates in a wake step.
        seconds: spent so far, all sessions together.
        messages: what is to be said.
        best: the highest gain so far.
    """

    step: int
    steps: int
    gain: float | None
    effective: float
    seconds: float
    messages: list[str] = field(default_factory=list)
    best: float | None = None


class WakeSleep:
    """Adapts a localizer.

    Args:
        localizer: in place; at the end it holds the averaged weights of the state that is kept. It must give posteriors of windows.
        theta: in place; its PSF is that of the simulator.
        simulator: draws the sleep's batches; its PSF and width follow theta.
        windows: of the movie, to learn from.
        held_out: of the movie, to choose the best state by and to end by; what judges that state must be others.
        noise: of the camera.
        settings: the schedule.
        device: where to train.
        checkpoint: file for stopping and going on; None for none.
        mark: identity of model and movie; a checkpoint of another mark is refused.
    """

    def __init__(
        self,
        localizer: InferringLocalizer,
        theta: Theta,
        simulator: Simulator,
        windows: MovieWindows,
        held_out: MovieWindows,
        noise: Noise,
        settings: WakeSleepSettings,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        mark: str = "",
    ) -> None:
        self.device = torch.device(device)
        self.localizer = localizer.to(self.device).train()
        self.theta, self.simulator, self.settings = theta.to(self.device), simulator, settings
        self.checkpoint, self.mark = checkpoint, mark
        simulator.microscope.psf = theta.psf
        self.windows, self.held_out = windows.to(self.device), held_out.to(self.device)
        size = localizer.scales.pixel_size_nm
        microscope = Microscope(theta.psf, simulator.microscope.camera, windows.grid(size))
        self.side_nm = math.sqrt(size[0] * size[1])
        self.waking = Waking(
            localizer,
            theta,
            microscope,
            noise,
            self._width_px(),
            consistency=settings.consistency,
            zoned=settings.zoned,
        )
        self.generator = torch.Generator(self.device).manual_seed(settings.seed)
        self.network_optimizers = network_optimizers(localizer, settings.learning_rate, settings.muon_rate)
        self.theta_optimizer = torch.optim.Adam(theta.groups(settings.theta_rate, psf=settings.psf_fits == 0), betas=(0.9, 0.98))
        self.averaged = copy.deepcopy(localizer).eval()
        self.before = copy.deepcopy(localizer).eval().requires_grad_(False)
        self.best = copy.deepcopy(localizer).eval()
        self.first_theta, self.best_theta = copy.deepcopy(theta), copy.deepcopy(theta)
        self.step, self.rate, self.seconds, self.simulating = 0, 1.0, 0.0, 0.0
        self.loss, self.norm, self.rollbacks = 0.0, 0.0, 0
        self.history: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.effective = math.nan

    @property
    def also(self) -> dict[str, nn.Module]:
        """What a checkpoint holds besides localizer and average."""
        return {"theta": self.theta, "best": self.best, "best_theta": self.best_theta}

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """All of them, in the order of a checkpoint."""
        return [*self.network_optimizers, self.theta_optimizer]

    def _width_px(self) -> float:
        return float(self.theta.psf.described().width_in_focus_nm()) / self.side_nm

    # ----------------------------------------------------------------------------------------------------------------------- the loop

    def run(self, report: Callable[[WakeSleepProgress], None] = lambda _: None, stop: Callable[[], bool] = lambda: False) -> None:
        """Go on until the planned rounds are done, the held-out bound gains no more, or ``stop`` says so.

        Where it ends by itself, localizer and theta hold the state that is kept (`kept_step`), the localizer ready to be used.

        Raises:
            TrainingError: again and again a step gave no finite number.
        """
        if not self.history:
            self._check()
        saved = time.monotonic()
        every = max(1, self.settings.steps // self.settings.checks)
        while not self.is_done and not stop():
            started = time.monotonic()
            self.one_round()
            self.step += 1
            if self.step % every == 0 or self.step == self.settings.steps:
                self._check()
            self.seconds += time.monotonic() - started
            gains = [entry["gain"] for entry in self.history]
            now, best = (gains[-1], max(gains)) if len(gains) > 1 else (None, None)
            report(WakeSleepProgress(self.step, self.settings.steps, now, self.effective, self.seconds, self.messages, best))
            self.messages = []
            if self.checkpoint is not None and time.monotonic() - saved > 60:
                self.save()
                saved = time.monotonic()
        if self.checkpoint is not None:
            self.save()
        if self.is_done:
            self.localizer.load_state_dict(self.best.state_dict())
            self.localizer.eval()
            self.theta.load_state_dict(self.best_theta.state_dict())
            self.simulator.width_px = self._width_px()

    @property
    def is_done(self) -> bool:
        """Whether all rounds are done, or the last checks brought nothing."""
        return self.step >= self.settings.steps or (self.settings.phases != "sleep" and self._idle() >= self.settings.patience)

    @property
    def kept_step(self) -> int:
        """The round whose state is kept: of those that were looked at the best one, with sleep alone the last one."""
        step: int = self.history[-1 if self.settings.phases == "sleep" else self._best_check()]["step"]
        return step

    def _best_check(self) -> int:
        return int(np.argmax([entry["gain"] for entry in self.history]))

    def _idle(self) -> int:
        """Count the checks since the best one."""
        return len(self.history) - 1 - self._best_check() if self.history else 0

    def one_round(self) -> None:
        """Take a wake step and the sleep steps that go with it, as the schedule says; does not count."""
        s = self.settings
        if self.step in {round(i * s.steps / s.psf_fits) for i in range(s.psf_fits)}:
            self._fit_psf()
        self._schedule()
        theta_alone = s.phases != "sleep" and self.step < s.theta_first * s.steps
        if s.phases != "sleep":
            self._wake(theta_alone)
        if s.phases != "wake" and not theta_alone:
            for _ in range(s.sleeps):
                self._sleep()
        if not theta_alone:
            self._average()

    def _schedule(self) -> None:
        """Let the rates fall along a cosine to 2 %."""
        done = self.step / self.settings.steps
        factor = self.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))) * min(1.0, (self.step + 1) / 20)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor

    def _fit_psf(self) -> None:
        """Fit theta to molecules that the network finds in the movie."""
        seen = see(self.averaged, self.told(self.windows))
        fitted = fit_in_situ(self.theta, seen, self.waking.microscope, self.waking.noise)
        if fitted is None:
            self.messages.append(
                f"round {self.step}: the PSF is kept as it is; it could not be fitted to the few molecules that were found"
            )

    def _wake(self, theta_alone: bool) -> None:
        """Look at some windows; theta learns, and the network unless theta is to move alone."""
        s = self.settings
        index = torch.randint(len(self.windows), (s.windows,), generator=self.generator, device=self.device)
        windows = self.told(self.windows.select(index))
        with torch.set_grad_enabled(not theta_alone):
            look = self.waking.look(windows, s.samples, self.generator, s.trials)
        self.effective = look.effective
        chosen = self.waking.again(look, self.generator)
        loss = self.waking.theta_loss(look, chosen)
        if not theta_alone:
            loss = loss + self.waking.network_loss(look, chosen) + self._anchored(look, windows)
        self._step(loss, [self.theta_optimizer] if theta_alone else self.optimizers)
        self.theta.keep()

    def _anchored(self, look: Look, windows: MovieWindows) -> Tensor:
        """Weighted divergence to the network as it was before, per frame and emitter."""
        if self.settings.anchor == 0:
            return torch.zeros((), device=self.device)
        with torch.no_grad():
            before = self.before.posterior_of_windows(windows.photons, windows.conditions)
        per_frame = max(1.0, float(before.probability.sum()) / len(before.logit))
        return self.settings.anchor * divergence(before, look.posterior).mean() / per_frame

    def _sleep(self) -> None:
        """Learn from simulations with the present theta."""
        self.simulator.width_px = self._width_px()
        began = time.monotonic()
        batch = self.simulator.draw(self.settings.sleep_batch, self.generator)
        self.simulating += time.monotonic() - began
        self._step(self.localizer.batch_loss(batch), self.network_optimizers)

    def _step(self, loss: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Take one step, unless it is not a finite one."""
        for learner in (self.localizer, self.theta):  # a PSF that is fitted belongs to no optimizer, and has slopes all the same
            learner.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = loss.item()
        norm = float(nn.utils.clip_grad_norm_(self.localizer.parameters(), self.settings.clip))
        slopes = [value.grad for value in self.theta.parameters() if value.grad is not None]
        if not math.isfinite(value + norm) or not all(bool(slope.isfinite().all()) for slope in slopes):
            self.rollbacks += 1
            self.rate *= 0.7
            self.messages.append(f"step {self.step}: the loss became {value:.3g}; the step was left out and the rate lowered")
            if self.rollbacks > MOST_SKIPPED:
                raise TrainingError(
                    f"adapting gave no finite number {self.rollbacks} times; check that camera and background of the movie are right"
                )
            return
        for optimizer in optimizers:
            optimizer.step()
        self.loss = value

    @torch.no_grad()
    def _average(self) -> None:
        for mean, weight in zip(self.averaged.parameters(), self.localizer.parameters(), strict=True):
            mean.lerp_(weight, 1 - self.settings.average)
        for copied, own in zip(self.averaged.buffers(), self.localizer.buffers(), strict=True):
            copied.copy_(own)

    # ---------------------------------------------------------------------------------------------------------------------- held out

    def bound(self, localizer: InferringLocalizer, theta: Theta, frames: MovieWindows | None = None) -> Tensor:
        """Give the bound of held-out frames, (windows,) nats per frame; those that choose if None. Always with the same random numbers."""
        held_out = self.held_out if frames is None else frames
        microscope = Microscope(theta.psf, self.simulator.microscope.camera, self.waking.microscope.grid)
        waking = copy.copy(self.waking)
        waking.localizer, waking.theta, waking.microscope = localizer, theta, microscope
        generator = torch.Generator(self.device).manual_seed(self.settings.seed + 1)
        inner = held_out.photons.shape[1] - 2 * localizer.context
        found = []
        with torch.no_grad():
            for first in range(0, len(held_out), self.settings.windows):
                windows = held_out.select(slice(first, first + self.settings.windows))
                look = waking.look(self.told(windows, theta), self.settings.samples, generator, self.settings.trials)
                found.append(look.bound.reshape(-1, inner).mean(1))
        return torch.cat(found)

    def bound_before(self, frames: MovieWindows | None = None) -> Tensor:
        """Give what `bound` gives for localizer and PSF as they were. The rest of theta is that of now: what is known of a movie betters no model."""
        return self.bound(self.before, self.theta.with_psf_of(self.first_theta), frames)

    def told(self, windows: MovieWindows, theta: Theta | None = None) -> MovieWindows:
        """Tell the localizer the PSF's present width, where it is told any."""
        if self.simulator.reference is not None:
            return windows
        psf = (theta or self.theta).psf
        conditions = windows.conditions.clone()
        conditions[:, 3] = float(psf.described().width_in_focus_nm()) / self.side_nm
        return replace(windows, conditions=conditions)

    def _check(self) -> None:
        """Look at the held-out frames, and keep the state if it is the best, with sleep alone in any case."""
        now = self.bound(self.averaged, self.theta)
        gain = Gain.of(now, self.bound_before()).mean if self.history else 0.0
        is_best = not self.history or gain > max(entry["gain"] for entry in self.history)
        if is_best or self.settings.phases == "sleep":
            self.best.load_state_dict(self.averaged.state_dict())
            self.best_theta.load_state_dict(self.theta.state_dict())
        self.history.append(
            {
                "step": self.step,
                "bound": round(float(now.mean()), 3),
                "gain": round(gain, 4),
                "effective": None if math.isnan(self.effective) else round(self.effective, 2),
                "theta": {name: float(f"{value:.5g}") for name, value in self.theta.values().items()},
            }
        )

    # -------------------------------------------------------------------------------------------------------------------- checkpoints

    def parts(self) -> dict[str, nn.Module]:
        """Give by name what the optimizers change and checkpoints keep."""
        return {"localizer": self.localizer, "averaged": self.averaged, **self.also}

    def save(self) -> None:
        """Write the checkpoint."""
        assert self.checkpoint is not None
        save_checkpoint(self.checkpoint, self)

    def resume(self) -> bool:
        """Go on from the checkpoint if there is one; what follows equals what would have followed."""
        return self.checkpoint is not None and load_checkpoint(self.checkpoint, self)


def samples_that_fit(k: int, frames: int, pixels: int, memory: float) -> int:
    """Give the sets that fit into memory (bytes), at most k and at least 2.

    Args:
        k: sets wanted.
        frames: frames in a wake step.
        pixels: of a frame, all planes.
        memory: that may be used; may be infinite.
    """
    return max(2, int(min(k, memory / max(1, 4 * NUMBERS_PER_SET * frames * pixels))))


__all__ = ["Gain", "MovieWindows", "Noise", "WakeSleep", "WakeSleepProgress", "WakeSleepSettings", "samples_that_fit"]
