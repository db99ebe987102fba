"""What all experiments of the reproduction share: equal training times, simulated frames with truth, marks, and how a claim is kept."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import torch

from denseloc.data import Frames, Localizations
from denseloc.evaluate.matching import match
from denseloc.experiment import Experiment
from denseloc.localize import InputConditions, Localizer, TrainableLocalizer
from denseloc.model_file import Model, load_model
from denseloc.train import Progress, Trainer
from denseloc.train.validate import as_table
from denseloc.training import train

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import common as benchmarks

matplotlib.use("Agg")
matplotlib.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

ROOT = Path(__file__).resolve().parents[2]
RESULTS = benchmarks.RESULTS / "reproduction"
FIGURES = ROOT / "docs" / "img" / "reproduction"
KEPT = Path(__file__).resolve().parent / "models"
TIMED_STEPS = 12
BORDER_NM = 450.0


@dataclass(frozen=True)
class Claim:
    """A row of the page.

    Args:
        paper: who says it.
        claim: what is said.
        experiment: what we did: document, training, data.
        number: what we found.
        holds: whether it holds here.
        why: the reason, or what stands against it.
    """

    paper: str
    claim: str
    experiment: str
    number: str
    holds: Literal["yes", "no", "in part"]
    why: str = ""


@dataclass(frozen=True)
class Setting:
    """How much may be spent.

    Args:
        data: folder with the movies, beside the checkout.
        models: folder that keeps what is trained.
        scale: factor on all training times.
    """

    data: Path
    models: Path
    scale: float = 1.0


def trained(name: str, document: Experiment, minutes: float, setting: Setting, start_from: str | None = None) -> Model:
    """Train a model for so many minutes of one core, unless it is there or comes with the project; goes on where it was interrupted.

    It begins with the weights of ``start_from`` where that is given.

    The steps that fit are timed by the clock of the process, so that other work on the machine takes nothing away, and are kept beside the model.
    """
    file = setting.models / f"{name}.safetensors"
    for there in (file, KEPT / file.name) if setting.scale == 1.0 else (file,):
        if there.exists():
            return load_model(there)
    setting.models.mkdir(parents=True, exist_ok=True)
    kept = setting.models / f"{name}.json"
    if not kept.exists():
        steps = max(20, round(60 * minutes * setting.scale / seconds_per_step(document)))
        kept.write_text(json.dumps({"steps": steps, "minutes": minutes * setting.scale}))
    steps = json.loads(kept.read_text())["steps"]
    document = document.model_copy(update={"training": document.training.model_copy(update={"steps": steps})})

    def report(progress: Progress) -> None:
        if progress.messages or progress.step % max(1, steps // 5 // 50 * 50) == 0:
            score = progress.score.to_json() if progress.score else {}
            print(
                f"  {name} {progress.step}/{steps} {progress.seconds:.0f} s, loss {progress.loss:.4g} {score}",
                *progress.messages,
                flush=True,
            )

    return train(document, file, start_from=start_from, resume=True, report=report)


def seconds_per_step(document: Experiment) -> float:
    """Time a training step, on the process's own clock."""
    localizer = document.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    settings = document.training.model_copy(update={"steps": TIMED_STEPS})
    trainer = Trainer(localizer, document.build_simulator(localizer), settings)
    trainer._train_step()
    began = time.process_time()
    trainer.run()
    return (time.process_time() - began) / TIMED_STEPS


@dataclass(frozen=True)
class Drawn:
    """Simulated frames, in photons, with the emitters whose centres lie in them and what a localizer is told of them."""

    frames: Frames
    truth: Localizations
    told: InputConditions

    @property
    def size_nm(self) -> tuple[float, float]:
        """(y, x) of the field."""
        (rows, columns), (y_nm, x_nm) = self.frames.shape_px, self.frames.pixel_size_nm
        return rows * y_nm, columns * x_nm


@torch.no_grad()
def simulated(
    document: Experiment, n_frames: int, shape_px: tuple[int, int], seed: int, density_per_um2: float | None = None
) -> Drawn:
    """Draw a movie."""
    if density_per_um2 is not None:
        specimen = document.specimen.model_copy(update={"density_per_um2": (density_per_um2, density_per_um2)})
        document = document.model_copy(update={"specimen": specimen})
    generator = torch.Generator().manual_seed(seed)
    drawn = document.build_specimen(shape_px)
    emitters, background = drawn.draw(n_frames, generator), drawn.draw_background(n_frames, generator)
    microscope = document.build_microscope(shape_px)
    camera = microscope.camera.crop(0, 0, *shape_px)
    photons = camera.to_photons(camera.sample(microscope.expected(emitters, background), generator))
    height, width = document.grid(shape_px).size_nm
    inside = (emitters.x_nm >= 0) & (emitters.x_nm < width) & (emitters.y_nm >= 0) & (emitters.y_nm < height)
    excess, variance = (
        float(torch.as_tensor(v, dtype=torch.float32).mean()) for v in (camera.excess, camera.noise_variance(shape_px))
    )
    told = InputConditions(float(background.mean()), excess, variance, document.width_px())
    return Drawn(Frames(photons, document.pixel_size_nm), as_table(emitters.select(inside)), told)


def localized(localizer: Localizer, drawn: Drawn) -> Localizations:
    """Localize simulated frames, told of their conditions where the model takes any."""
    before, localizer.conditions = localizer.conditions, drawn.told
    try:
        return localizer(drawn.frames)
    finally:
        localizer.conditions = before


def marks(
    found: Localizations, truth: Localizations, three: bool, field_nm: tuple[float, float], border_nm: float = BORDER_NM
) -> dict[str, float]:
    """Compare with the truth inside of the border, by the rule of the SMLM challenge (250 nm lateral, 500 nm axial).

    Returns:
        recall, precision, jaccard (0 .. 1), rmse per axis (x and y together, z) and as a distance, in nm; number of true emitters.
    """
    found, truth = (_inside(table, field_nm, border_nm) for table in (found, truth))
    pairs = match(found, truth, dimensions=3 if three else 2)
    names = ("x_nm", "y_nm", "z_nm") if three else ("x_nm", "y_nm")
    squares = {name: float(np.mean(pairs.difference(name, found, truth) ** 2)) if len(pairs) else np.nan for name in names}
    n = len(pairs)
    lateral = (squares["x_nm"] + squares["y_nm"]) / 2
    return {
        "recall": n / max(1, len(truth)),
        "precision": n / max(1, len(found)),
        "jaccard": n / max(1, len(truth) + len(found) - n),
        "rmse_x_nm": lateral**0.5,
        "rmse_z_nm": squares["z_nm"] ** 0.5 if three else np.nan,
        "rmse_lateral_nm": (2 * lateral) ** 0.5,
        "rmse_3d_nm": (2 * lateral + squares["z_nm"]) ** 0.5 if three else np.nan,
        "emitters": len(truth),
    }


def efficiency(mark: dict[str, float]) -> float:
    """Give the challenge's efficiency in percent: 2D, or the mean of lateral and axial."""
    missed = (100 * (1 - mark["jaccard"])) ** 2
    parts = [100 - (missed + mark["rmse_lateral_nm"] ** 2) ** 0.5]
    if np.isfinite(mark["rmse_z_nm"]):
        parts.append(100 - (missed + (0.5 * mark["rmse_z_nm"]) ** 2) ** 0.5)
    return float(np.mean(parts))


def _inside(table: Localizations, field_nm: tuple[float, float], border_nm: float) -> Localizations:
    y, x = field_nm
    ok = (table.x_nm > border_nm) & (table.x_nm < x - border_nm) & (table.y_nm > border_nm) & (table.y_nm < y - border_nm)
    return table.select(ok)


def frames_per_second(localizer: Localizer, frames: Frames, least_seconds: float = 2.0) -> float:
    """Time a localizer, by the clock, after one run to warm up."""
    localizer(frames)
    began, runs = time.perf_counter(), 0
    while time.perf_counter() - began < least_seconds:
        localizer(frames)
        runs += 1
    return runs * len(frames) / (time.perf_counter() - began)


def figure_file(name: str) -> Path:
    """Give the file of a figure of the page."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    return FIGURES / f"{name}.png"


def record(
    name: str, title: str, claims: Sequence[Claim], results: Any, figures: dict[str, str], seed: int = 1, **more: Any
) -> None:
    """Keep an experiment: its rows for the page, its figures (name: caption) and all numbers."""
    rows = [asdict(claim) for claim in claims]
    benchmarks.keep(
        f"reproduction_{name}",
        seed=seed,
        results=results,
        summary=[],
        file=RESULTS / f"{name}.json",
        title=title,
        claims=rows,
        figures=figures,
        **more,
    )
    for claim in claims:
        print(f"{name}: {claim.claim} | {claim.number} | {claim.holds} | {claim.why}", flush=True)
