"""``adapt`` where the PSF is deliberately off: efficiency before, after, and of a model with the right PSF; and on a real movie."""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import tifffile
from claims import Claim, Setting, efficiency, figure_file, marks, record, trained

from denseloc.calibrate.psf_fit import fit_psf
from denseloc.calibrate.stack import BeadStack
from denseloc.experiment import Experiment
from denseloc.formats import open_movie, read_table
from denseloc.model_file import Model, load_model
from denseloc.pipeline import localize
from denseloc.preparation import parse_camera
from denseloc.verbs import adapt, render

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import challenge

PRESET = "small"
STARTS = {"2D": "general-2d", "AS": "astigmatic-demo"}  # weights that the models begin with
MINUTES = 2.0  # of simulator learning
ADAPT_MINUTES = 3.0
FIELD_NM = (6400.0, 6400.0)
OFF: dict[str, tuple[str, dict[str, float]]] = {  # movie, and factors on parameters of its PSF
    "2D, 10 % wider": ("2D_N1_HD", {"width_nm": 1.1}),
    "astigmatic, 10 % wider": ("AS_N1_HD", {"width_nm": 1.1}),
    "astigmatic, foci 25 % nearer": ("AS_N1_HD", {"focus_a_nm": 0.75, "focus_b_nm": 0.75}),
}
REAL_CAMERA = "kind=scmos,offset=99,electrons_per_count=0.6"
CROP_PX = 32


def run(setting: Setting) -> None:
    """Train, adapt, compare."""
    found = {name: on_challenge(name, setting) for name in OFF}
    real = on_real(setting)
    draw(found)
    record(
        "adaptation",
        "Adapting to a movie",
        [challenge_claim(found, setting), real_claim(real, setting)],
        {
            "challenge": found,
            "real": real,
            "minutes": MINUTES * setting.scale,
            "adapt_minutes": ADAPT_MINUTES * setting.scale,
            "preset": PRESET,
        },
        {
            "adaptation": "Efficiency of a model with a PSF that is off, before and after adapting (hatched: refused), and with the right PSF.",
            "adaptation_real": "The real movie of tubulins, localized before (left) and after (right) adapting to it.",
        },
    )


def documents(name: str, setting: Setting) -> tuple[Experiment, Experiment]:
    """Give the experiment with the right PSF and with the one that is off."""
    movie, factors = OFF[name]
    psf = challenge.psf_of(movie[:2], setting.data / "challenge/sim", setting.models)
    right = challenge.document(movie[:5], psf, "small", 1).to_json()
    right["localizer"] = {"kind": "decode", "preset": PRESET, "conditioned": True}
    wrong = copy.deepcopy(right)
    for key, factor in factors.items():
        wrong["psf"][key] *= factor
    return Experiment.from_json(right), Experiment.from_json(wrong)


def on_challenge(name: str, setting: Setting) -> dict[str, Any]:
    """Efficiency before, after, and with the right PSF trained for the same time in all."""
    movie, _ = OFF[name]
    right, wrong = documents(name, setting)
    path = setting.data / f"challenge/sim/{movie}.tif"
    key = name.replace(" ", "_").replace(",", "").replace("%", "percent")
    before = trained(f"adaptation_{key}", wrong, MINUTES, setting, STARTS[movie[:2]])
    after, made = adapted(f"adaptation_{key}_adapted", before, path, setting)
    best = trained(f"adaptation_{movie}_right", right, MINUTES + ADAPT_MINUTES, setting, STARTS[movie[:2]])
    result: dict[str, Any] = {"made": made}
    for what, model in (("before", before), ("after", after), ("right", best)):
        found = read_table(localize(path, setting.models / f"adaptation_{key}_{what}.parquet", model=model).table)
        mark = marks(found, read_table(path.with_name(f"{movie[3:]}_activations.csv")), not movie.startswith("2D"), FIELD_NM)
        result[what] = {**mark, "efficiency": efficiency(mark)}
    print(name, {what: round(result[what]["efficiency"], 1) for what in ("before", "after", "right")}, made, flush=True)
    return result


def adapted(name: str, model: Model, movie: Path, setting: Setting, **more: Any) -> tuple[Model, dict[str, Any]]:
    """Adapt by the verb for so many minutes of one core; a refused model is kept apart all the same, to be measured."""
    file = setting.models / f"{name}.safetensors"
    if file.exists():
        kept = load_model(file)
        return kept, dict(kept.record["benchmark"])
    made = adapt(model, movie, file, minutes=ADAPT_MINUTES * setting.scale, clock=time.process_time, **more)
    summary = {
        "refused": made.refused,
        "gain": vars(made.gain),
        "network_gain": vars(made.network_gain),
        "theta": [dict(one) for one in made.theta],
        "quality": [vars(one) for one in made.quality],
        "steps": made.steps,
        "warnings": made.warnings,
    }
    from denseloc.model_file import save_model

    save_model(file, Model(made.model.localizer, made.model.experiment, {**made.model.record, "benchmark": summary}, name))
    return load_model(file), summary


def on_real(setting: Setting) -> dict[str, Any]:
    """Adapt a model of the bead stack's formula to the real movie of the same setup."""
    folder = setting.data / "data/3denseSTORM/real_3d_astigmatism"
    camera = parse_camera(REAL_CAMERA)
    movie = folder / "tubulins.tif"
    model = trained("adaptation_real", real_document(folder), MINUTES, setting, STARTS["AS"])
    after, made = adapted("adaptation_real_adapted", model, movie, setting, camera=camera, pixel_size_nm=65.0)
    shape = open_movie(movie).shape_px
    pictures = []
    for what, one in (("before", model), ("after", after)):
        table = localize(
            movie, setting.models / f"adaptation_real_{what}.parquet", model=one, camera=camera, pixel_size_nm=65.0
        ).table
        file = setting.models / f"adaptation_real_{what}.png"
        render(table, file, field_nm=(shape[0] * 65.0, shape[1] * 65.0), scale_bar=False)
        pictures.append(plt.imread(file))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
    for axis, picture, what in zip(axes, pictures, ("before", "after"), strict=True):
        axis.imshow(picture)
        axis.set(xticks=[], yticks=[], title=what)
    figure.savefig(figure_file("adaptation_real"))
    plt.close(figure)
    print("real", made, flush=True)
    return made


def real_document(folder: Path) -> Experiment:
    """Write down the experiment of the real movie, with a formula fitted to its bead."""
    camera = parse_camera(REAL_CAMERA)
    counts = tifffile.imread(folder / "calibration.tif")
    stack = BeadStack.of(counts, np.arange(-400, 401, 10.0), camera, "calibration.tif")
    fit = fit_psf([stack], (65.0, 65.0), "astigmatic", roi_px=21, map_step_nm=0.0, steps=200)
    return Experiment.from_json(
        {
            "name": "tubulins",
            "pixel_size_nm": 65,
            "psf": fit.psf.model_dump(mode="json"),
            "camera": {"kind": "scmos", "offset_counts": 99, "electrons_per_count": 0.6, "read_noise_electrons": 1.5},
            "specimen": {
                "density_per_um2": [0.5, 4.0],
                "z_nm": [-400, 400],
                "structure": {"kind": "filaments", "fraction": 0.6, "count": [1, 4]},
                "blinking": {"kind": "survival", "survival": 0.5},
                "photons": {"kind": "log_uniform", "low": 400, "high": 3000},
                "background": {"kind": "slowly_varying", "photons": [15, 50], "amplitude": 0.15},
            },
            "localizer": {"kind": "decode", "preset": PRESET, "conditioned": True},
            "training": {"seed": 1},
        }
    )


def challenge_claim(found: dict[str, Any], setting: Setting) -> Claim:
    """Say how much of the way to the right PSF adapting goes."""
    values = {name: tuple(one[what]["efficiency"] for what in ("before", "after", "right")) for name, one in found.items()}
    better = sum(after > before for before, after, _ in values.values())
    refused = [name for name, one in found.items() if one["made"]["refused"]]
    return Claim(
        "DECODE",
        "a model with a PSF that is off can be taken to the movie",
        f"efficiency on dense challenge-like movies before, after, with the right PSF; {PRESET} network from a shipped one, "
        f"{MINUTES * setting.scale:.2g} core-minutes of training, {ADAPT_MINUTES * setting.scale:.2g} of adapting (the right one has both), seed 1",
        "; ".join(f"{name}: {before:.1f}, {after:.1f}, {right:.1f}" for name, (before, after, right) in values.items()),
        "yes" if better == len(values) else "in part" if better else "no",
        f"better in {better} of {len(values)}"
        + (f"; {', '.join(refused)} was refused: the model stays as it was" if refused else ""),
    )


def real_claim(real: dict[str, Any], setting: Setting) -> Claim:
    """Say what the real movie gained."""
    gain, before, after = real["gain"], *real["quality"]
    return Claim(
        "DECODE",
        "a real dSTORM movie is explained better after learning from it",
        f"3denseSTORM tubulins, PSF by a formula from the bead, {PRESET} network, {MINUTES * setting.scale:.2g} and "
        f"{ADAPT_MINUTES * setting.scale:.2g} core-minutes, seed 1",
        f"held-out bound {gain['mean']:+.2f} ± {gain['error']:.2f} nats per frame of {CROP_PX} px; chi2 {before['chi2']:.3f} to {after['chi2']:.3f}",
        "no" if real["refused"] else "yes",
        real["refused"] or "; ".join(real["warnings"]),
    )


def draw(found: dict[str, Any]) -> None:
    """Draw bars."""
    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for i, what in enumerate(("before", "after", "right")):
        bars = axis.bar(
            np.arange(len(found)) + 0.27 * (i - 1), [one[what]["efficiency"] for one in found.values()], 0.25, label=what
        )
        for bar, one in zip(bars, found.values(), strict=True):
            if what == "after" and one["made"]["refused"]:
                bar.set(facecolor="none", edgecolor="C1", hatch="///")
                axis.text(bar.get_x() + bar.get_width() / 2, 1, "refused", ha="center", fontsize=7, rotation=90)
    axis.set_xticks(np.arange(len(found)), list(found), fontsize=8)
    axis.set_ylabel("efficiency (%)")
    axis.legend(frameon=False)
    figure.savefig(figure_file("adaptation"))
    plt.close(figure)
