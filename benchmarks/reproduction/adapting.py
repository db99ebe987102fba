"""What the experiments on model mismatch share: windows of simulated movies, and wake-sleep for so many minutes of one core."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import torch
from claims import Drawn, Setting

from denseloc.experiment import Experiment
from denseloc.localize import InferringLocalizer
from denseloc.model_file import Model, load_model, save_model
from denseloc.train.theta import Beginning, Theta
from denseloc.train.wake import MovieWindows, Noise
from denseloc.train.wake_sleep import WakeSleep, WakeSleepSettings
from denseloc.verbs.adaptation_work import steps_that_fit

SIDE_PX, INNER, WINDOWS, HELD_OUT = 32, 3, 600, 40


def windows_of(drawn: Drawn, localizer: InferringLocalizer, n: int, seed: int) -> MovieWindows:
    """Cut windows at random places of a simulated movie; the background is told."""
    generator = torch.Generator().manual_seed(seed)
    photons, t = drawn.frames.photons, INNER + 2 * localizer.context
    limits = (len(photons) - t + 1, photons.shape[-2] - SIDE_PX + 1, photons.shape[-1] - SIDE_PX + 1)
    start, y, x = (torch.randint(limit, (n,), generator=generator).tolist() for limit in limits)
    cut = torch.stack([photons[f : f + t, :, i : i + SIDE_PX, j : j + SIDE_PX] for f, i, j in zip(start, y, x, strict=True)])
    level = torch.full((n, 1, SIDE_PX, SIDE_PX), drawn.told.background)
    told = drawn.told if localizer.settings.is_told else localizer.scales.reference
    return MovieWindows(cut, level, told.tensor(n), torch.zeros(n, 2))


def adapted(
    name: str, model: Model, document: Experiment, drawn: Drawn, minutes: float, setting: Setting, **settings: Any
) -> tuple[Model, dict[str, Any]]:
    """Adapt a model to a simulated movie for so many minutes of one core, unless it is there; gives it and what was learned."""
    file, kept = setting.models / f"{name}.safetensors", setting.models / f"{name}.json"
    if file.exists():
        return load_model(file), json.loads(kept.read_text())
    usual = WakeSleepSettings(**{"anchor": 0.0 if settings.get("phases") == "wake" else 0.01, "seed": 1, **settings})
    trial = _loop(model, document, drawn, usual.model_copy(update={"theta_first": 0.0}))
    steps = steps_that_fit(trial, minutes * setting.scale, time.process_time)
    loop = _loop(model, document, drawn, usual.model_copy(update={"steps": steps, "checks": 5, "patience": 6}))
    loop.run(
        lambda p: (
            print(f"  {name} {p.step}/{p.steps} {p.seconds:.0f} s, gain {p.gain}", flush=True)
            if p.step % max(1, steps // 5) == 0
            else None
        )
    )
    learned = {"steps": steps, "theta": loop.theta.values(), "at_bounds": loop.theta.at_bounds(), "history": loop.history}
    psf = loop.theta.psf.described()
    made = Model(loop.localizer.eval(), document.model_copy(update={"psf": psf}), {"steps": steps}, name)
    kept.write_text(json.dumps(learned))
    save_model(file, made)
    return load_model(file), learned


def _loop(model: Model, document: Experiment, drawn: Drawn, settings: WakeSleepSettings) -> WakeSleep:
    localizer = copy.deepcopy(model.localizer)
    localizer.correction = None
    assert isinstance(localizer, InferringLocalizer)
    frames = len(drawn.frames.photons)
    last = frames * 5 // 6
    parts = [
        Drawn(type(drawn.frames)(drawn.frames.photons[part], drawn.frames.pixel_size_nm), drawn.truth, drawn.told)
        for part in (slice(0, last), slice(last, frames))
    ]
    learn, held = (windows_of(part, localizer, n, seed) for part, n, seed in zip(parts, (WINDOWS, HELD_OUT), (1, 2), strict=True))
    truth = drawn.truth
    area_um2 = drawn.size_nm[0] * drawn.size_nm[1] * 1e-6
    beginning = Beginning(
        len(truth) / frames / area_um2, float(torch.as_tensor(truth.photons).median()), 0.5, document.specimen.z_nm
    )
    theta = Theta(document.psf.build(document.pixel_size_nm), localizer.scales, beginning, learn_psf=settings.learn_psf)
    noise = Noise(drawn.told.excess, drawn.told.noise_variance)
    return WakeSleep(localizer, theta, document.build_simulator(localizer), learn, held, noise, settings)
