"""The training loop: schedule, averaged weights, checkpoints, and a guard against divergence."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, field_validator
from torch import nn

from ..description import Range, Section
from ..errors import TrainingError
from ..localize import Batch, TrainableLocalizer
from .checkpoint import load_checkpoint, save_checkpoint
from .optimizers import network_optimizers
from .simulate import Simulator
from .validate import Score, score

GREATEST_SEED = 1 << 62
"""Random generators take 64 bits, and other seeds follow from this one by adding."""
PARTS = 5
"""Parts of the schedule "steps": the paper of LUENN begins with two at one rate, and halves it at the begin of each other."""
VALIDATION_FRAMES = 256  # in each of two batches, at most where windows are long


def _usable(seed: int) -> int:
    """Check that random generators take a seed and those that follow from it."""
    if abs(seed) > GREATEST_SEED:
        raise ValueError("a seed lies within -2^62 .. 2^62; choose a smaller number")
    return seed


Seed = Annotated[int, AfterValidator(_usable)]


class TrainingSettings(Section):
    """``[training]``."""

    steps: int = Field(8000, ge=1, description="optimizer steps")
    batch_size: int = Field(24, ge=1, le=4096, description="windows in a step")
    frames: int = Field(
        4,
        ge=1,
        le=128,
        description="consecutive frames of a window, of one structure; those with all neighbours that the localizer wants are learned, and with "
        "global context a window is the movie: 16 or more then",
    )
    patch_px: int = Field(40, ge=16, multiple_of=4, description="width of a simulated frame")
    optimizer: Literal["muon", "adamw"] = Field("muon", description="muon: hidden convolutions by Muon, the rest by AdamW")
    learning_rate: float = Field(1.2e-3, gt=0, description="largest rate of AdamW")
    muon_rate: float = Field(0.01, gt=0, description="largest rate of Muon")
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["cosine", "steps"] = Field(
        "cosine", description="how the rate falls: along a cosine, or halved at the third, fourth and last of five equal parts"
    )
    warmup: int = Field(100, ge=0, description="steps of rising rate")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the running average of the weights, which is what is kept")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient, in units of its usual norm times 3")
    psf_scale: Range = Field((1.0, 1.0), description="range of a factor on the PSF's size, drawn for each window")
    plane_shift_nm: float = Field(
        0.0,
        ge=0,
        description="largest lateral shift, along each axis, of the later focal planes against the first, drawn for each window",
    )
    lone_fraction: float = Field(0.05, ge=0, le=1, description="windows whose frames are learned as if there were no others")
    seed: Seed = 0

    @field_validator("psf_scale")
    @classmethod
    def _in_order(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("must run from low to high, both above 0")
        return value


@dataclass
class Progress:
    """How a training stands.

    Args:
        step, steps: done and planned.
        loss: running mean of the loss.
        score: last validation, None before the first.
        seconds: spent so far, all sessions together.
        simulation_share: fraction of the time that went into drawing batches.
        messages: what the guard had to say since the last report.
    """

    step: int
    steps: int
    loss: float
    score: Score | None
    seconds: float
    simulation_share: float
    messages: list[str] = field(default_factory=list)


class Trainer:
    """Trains a localizer on simulated batches.

    Args:
        localizer: in place; at the end it holds the averaged weights.
        simulator: draws the batches.
        settings: the schedule.
        device: where to train.
        checkpoint: file for stopping and going on; None for none.
        mark: identity of the document and of the first weights; a checkpoint of another mark is refused.
    """

    def __init__(
        self,
        localizer: TrainableLocalizer,
        simulator: Simulator,
        settings: TrainingSettings,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        mark: str = "",
    ) -> None:
        self.device = torch.device(device)
        self.localizer = localizer.to(self.device).train()
        self.simulator, self.settings, self.checkpoint, self.mark = simulator, settings, checkpoint, mark
        self.generator = torch.Generator(self.device).manual_seed(settings.seed)
        self.optimizers = network_optimizers(
            localizer, settings.learning_rate, settings.muon_rate if settings.optimizer == "muon" else 0.0, settings.weight_decay
        )
        self.averaged = copy.deepcopy(localizer).eval()
        self.step, self.rate, self.seconds, self.simulating = 0, 1.0, 0.0, 0.0
        self.loss, self.norm, self.rollbacks = math.nan, math.nan, 0
        self.history: list[dict[str, Any]] = []
        self.score: Score | None = None
        self.good: dict[str, Any] | None = None
        held_out = torch.Generator(self.device).manual_seed(settings.seed + 1)
        windows = min(16, max(4, VALIDATION_FRAMES // settings.frames))
        self.validation = [simulator.draw(windows, held_out) for _ in range(2)]

    def parts(self) -> dict[str, nn.Module]:
        """Give by name what the optimizers change and checkpoints keep."""
        return {"localizer": self.localizer, "averaged": self.averaged}

    def run(
        self, report: Callable[[Progress], None] = lambda _: None, every: int = 50, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Train until the planned steps are done or ``stop`` says so; then leave the averaged weights in the localizer.

        Raises:
            TrainingError: the loss diverged again and again although the rate was lowered.
        """
        messages: list[str] = []
        self.good = self._snapshot()
        saved = time.monotonic()
        while self.step < self.settings.steps and not stop():
            started = time.monotonic()
            problem = self._train_step()
            self.seconds += time.monotonic() - started
            if problem:
                messages.append(self._roll_back(problem))
                continue
            if self.step % 200 == 0:
                self.good = self._snapshot()
            if self.step % max(every, self.settings.steps // 40) == 0 or self.step == self.settings.steps:
                self.score = self._validated()
                self.history.append(
                    {"step": self.step, "loss": round(self.loss, 4), "seconds": round(self.seconds, 1), **self.score.to_json()}
                )
            if self.step % every == 0 or self.step == self.settings.steps:
                share = self.simulating / max(self.seconds, 1e-9)
                report(Progress(self.step, self.settings.steps, self.loss, self.score, self.seconds, share, messages))
                messages = []
            if self.checkpoint is not None and time.monotonic() - saved > 60:
                self.save()
                saved = time.monotonic()
        if self.checkpoint is not None:
            self.save()
        self.localizer.load_state_dict(self.averaged.state_dict())

    def _train_step(self) -> str | None:
        """Take one step; gives the reason if it must not count."""
        started = time.monotonic()
        batch = self._batch()
        self.simulating += time.monotonic() - started
        loss = self.localizer.batch_loss(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value = loss.item()
        usual = self.norm if math.isfinite(self.norm) else math.inf
        norm = float(nn.utils.clip_grad_norm_(self.localizer.parameters(), 3 * self.settings.clip * usual))
        if not math.isfinite(value) or not math.isfinite(norm):
            return f"the loss became {value}" if not math.isfinite(value) else f"the gradient became {norm}"
        if self.step > 200 and value > self.loss + 10 + 2 * abs(self.loss):
            return f"the loss jumped from {self.loss:.2f} to {value:.2f}"
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate(group)
            optimizer.step()
        self.step += 1
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self.norm = norm if math.isnan(self.norm) else 0.98 * self.norm + 0.02 * min(norm, 3 * self.norm)
        self._average()
        return None

    def _batch(self) -> Batch:
        """Draw what the next step learns from."""
        return self.simulator.draw(self.settings.batch_size, self.generator)

    def _validated(self) -> Score:
        """Score the averaged weights on held-out frames."""
        return score(self.averaged, self.validation)

    def _rate(self, group: dict[str, Any]) -> float:
        """Give the rate of a group of weights for the present step."""
        return float(group["peak"] * self._schedule())

    def _schedule(self) -> float:
        """Rise linearly, then fall along a cosine to 1 %, or by steps to an eighth."""
        s = self.settings
        if self.step < s.warmup:
            return self.rate * (self.step + 1) / s.warmup
        if s.schedule == "steps":
            return self.rate * 0.5 ** max(0, PARTS * self.step // s.steps - 1)
        done = (self.step - s.warmup) / max(1, s.steps - s.warmup)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        for mean, weight in zip(self.averaged.parameters(), self.localizer.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
        for copied, own in zip(self.averaged.buffers(), self.localizer.buffers(), strict=True):
            copied.copy_(own)  # statistics are running means already

    def _snapshot(self) -> dict[str, Any]:
        """Copy what a step changes, to come back to."""
        parts = {name: part.state_dict() for name, part in self.parts().items()}
        return copy.deepcopy({**parts, "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]})

    def _roll_back(self, problem: str) -> str:
        self.rollbacks += 1
        if self.rollbacks > 8:
            raise TrainingError(
                f"training diverged {self.rollbacks} times ({problem}); lower training.learning_rate and training.muon_rate, "
                "or check that photons and background of the document are right"
            )
        self.rate *= 0.5
        if self.good is not None:
            for name, part in self.parts().items():
                part.load_state_dict(self.good[name])
            for optimizer, state in zip(self.optimizers, self.good["optimizers"], strict=True):
                optimizer.load_state_dict(copy.deepcopy(state))
        return f"step {self.step}: {problem}; went back to the last good weights and halved the learning rate to {self.rate:g} of the plan"

    def save(self) -> None:
        """Write the checkpoint: everything that the next step depends on."""
        assert self.checkpoint is not None
        save_checkpoint(self.checkpoint, self)

    def resume(self) -> bool:
        """Go on from the checkpoint if there is one; the continued training equals the uninterrupted one."""
        return self.checkpoint is not None and load_checkpoint(self.checkpoint, self)
