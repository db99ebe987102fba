"""Temporal context: one frame, three frames, and the mean of the whole movie; equal training, the six dense challenge movies and structures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from claims import Claim, Setting, efficiency, figure_file, localized, marks, record, simulated, trained

from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.pipeline import localize

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import challenge

MINUTES = 5.0  # on the challenge's conditions
STRUCTURE_MINUTES = 3.0
PRESET = "tiny"
MOVIES = ("AS_N1", "2D_N1", "DH_N1", "AS_N2", "2D_N2", "DH_N2")
STRUCTURES = ("AS_N1", "2D_N1")
FIELD_NM = (6400.0, 6400.0)
STRUCTURED_FRAMES, STRUCTURED_SEEDS = 300, (11, 12, 13, 14)


def document(name: str, context: str, setting: Setting, *, structured: bool = False) -> Experiment:
    """Write down the experiment: the challenge's, with a small network that sees so many frames."""
    psf = challenge.psf_of(name[:2], setting.data / "challenge/sim", setting.models)
    values = challenge.document(name, psf, "small", 1).to_json()
    values["localizer"] = {"kind": "decode", "preset": PRESET, "conditioned": True, "context": context}
    if structured:  # many frames of the same few filaments, so that a mean over frames knows where they lie
        values["specimen"]["structure"] |= {"fraction": 1.0, "count": [2, 4]}
        values["specimen"]["density_per_um2"] = [0.2, 2.0]
        values["training"] |= {"frames": 16, "batch_size": 6}
    return Experiment.from_json(values)


def run(setting: Setting) -> None:
    """Train, localize, compare."""
    movies = {name: {c: on_movie(name, c, setting) for c in ("none", "local")} for name in MOVIES}
    contexts = ("none", "local", "global", "both")
    structures = {name: {c: on_structures(name, c, setting) for c in contexts} for name in STRUCTURES}
    draw(movies, structures)
    record(
        "context",
        "Temporal context",
        [local_claim(movies), global_claim(structures)],
        {"movies": movies, "structures": structures, "minutes": MINUTES, "structure_minutes": STRUCTURE_MINUTES, "preset": PRESET},
        {
            "context": "Jaccard and lateral RMSE with one frame and with three (left, middle); with the movie's mean on structures (right)."
        },
    )


def on_movie(name: str, context: str, setting: Setting) -> dict[str, float]:
    """Give the marks of a model on the dense challenge movie of its name."""
    model = trained(f"context_{name}_{context}", document(name, context, setting), MINUTES, setting)
    folder = setting.data / "challenge/sim"
    table = setting.models / f"context_{name}_{context}.parquet"
    found = read_table(localize(folder / f"{name}_HD.tif", table, model=model).table)
    mark = marks(found, read_table(folder / f"{name[3:]}_HD_activations.csv"), not name.startswith("2D"), FIELD_NM)
    return {**mark, "efficiency": efficiency(mark)}


def on_structures(name: str, context: str, setting: Setting) -> dict[str, float]:
    """Give the mean marks of a model on movies of a few filaments each."""
    experiment = document(name, context, setting, structured=True)
    model = trained(f"structures_{name}_{context}", experiment, STRUCTURE_MINUTES, setting)
    found = []
    for seed in STRUCTURED_SEEDS:
        drawn = simulated(experiment, STRUCTURED_FRAMES, (64, 64), seed, density_per_um2=1.0)
        mark = marks(localized(model.localizer, drawn), drawn.truth, not name.startswith("2D"), FIELD_NM)
        found.append({**mark, "efficiency": efficiency(mark)})
    return {key: float(np.mean([mark[key] for mark in found])) for key in found[0]}


def local_claim(movies: dict[str, Any]) -> Claim:
    """Say what three frames bring."""
    better = [m["local"]["jaccard"] > m["none"]["jaccard"] for m in movies.values()]
    finer = [m["local"]["rmse_lateral_nm"] < m["none"]["rmse_lateral_nm"] for m in movies.values()]
    parts = [f"{name} {one_mark(m['none'])} to {one_mark(m['local'])}" for name, m in movies.items()]
    both = sum(b and f for b, f in zip(better, finer, strict=True))
    return Claim(
        "DECODE",
        "local context raises Jaccard and lowers RMSE",
        f"six dense challenge-like movies, {PRESET} network, {MINUTES:g} core-minutes each, seed 1",
        "; ".join(parts),
        "yes" if both == len(movies) else "in part" if both else "no",
        f"Jaccard higher on {sum(better)} of {len(movies)}, RMSE lower on {sum(finer)}",
    )


def global_claim(structures: dict[str, Any]) -> Claim:
    """Say what the mean of the movie brings."""
    gains = [s[b]["jaccard"] - s[a]["jaccard"] for s in structures.values() for a, b in (("none", "global"), ("local", "both"))]
    parts = [f"{name} " + ", ".join(f"{c} {one_mark(m)}" for c, m in s.items()) for name, s in structures.items()]
    return Claim(
        "DECODE",
        "global context raises Jaccard on structured samples (figure 6a)",
        f"simulated filaments, {STRUCTURED_FRAMES} frames, 1 emitter per um², {PRESET} network, {STRUCTURE_MINUTES:g} core-minutes each",
        "; ".join(parts),
        "yes" if min(gains) > 0 else "in part" if max(gains) > 0.003 else "no",
        f"change of Jaccard {min(gains):+.3f} to {max(gains):+.3f}",
    )


def one_mark(mark: dict[str, float]) -> str:
    """Say Jaccard and lateral RMSE."""
    return f"{mark['jaccard']:.3f} / {mark['rmse_lateral_nm']:.0f} nm"


def draw(movies: dict[str, Any], structures: dict[str, Any]) -> None:
    """Draw bars for each movie and context."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, key, label in zip(axes, ("jaccard", "rmse_lateral_nm"), ("Jaccard", "lateral RMSE (nm)"), strict=False):
        _bars(axis, movies, key)
        axis.set_ylabel(label)
    _bars(axes[2], structures, "jaccard")
    axes[2].set(ylabel="Jaccard", xlabel="structures")
    figure.savefig(figure_file("context"))
    plt.close(figure)


def _bars(axis: Any, groups: dict[str, Any], key: str) -> None:
    contexts = list(next(iter(groups.values())))
    for i, context in enumerate(contexts):
        place = np.arange(len(groups)) + (i - (len(contexts) - 1) / 2) * 0.8 / len(contexts)
        axis.bar(place, [group[context][key] for group in groups.values()], 0.75 / len(contexts), label=context)
    axis.set_xticks(np.arange(len(groups)), list(groups), fontsize=7)
    axis.legend(frameon=False, fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
