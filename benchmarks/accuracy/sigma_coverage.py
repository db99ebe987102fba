"""Whether sigma and probability can be believed: on movies with truth that no model has seen, before and after the correction.

    python benchmarks/accuracy/sigma_coverage.py --data ../shared/challenge/sim --models runs/challenge

The models of `challenge.py` are corrected on frames of their own documents, as `denseloc recalibrate` does, and judged on the challenge-like
movies, which another program made with a PSF that the documents only approximate. The shipped models are judged on frames of their own
documents that had no part in the correction. Fits of single emitters, whose sigma is the Cramer-Rao bound, are judged on simulations of few
molecules and on the sparse movies. A constant offset is removed from what is found in the challenge-like movies, as in `challenge.py`, and a
constant factor from its photons: that truth counts those within 1 um of the emitter in focus.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from denseloc.data import Localizations
from denseloc.evaluate import Coverage, coverage, find_offset, in_words, match, remove_offset
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.localize import TrainableLocalizer
from denseloc.model_file import Model, find_model, load_model, shipped_models
from denseloc.pipeline import localize
from denseloc.train import Recalibration, recalibrate
from denseloc.train.recalibrate import HELD_OUT
from denseloc.verbs.simulation import simulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

MODELS = ("AS_N1", "2D_N1", "AS_N2", "DH_N1", "DH_N2", "2D_N2")
SPARSE_PER_UM2 = 0.02
SEED = 5


def corrected(model: Model) -> Recalibration:
    """Find a model's correction on its own document, and put it on."""
    localizer = model.localizer
    assert isinstance(localizer, TrainableLocalizer)
    localizer.correction = None
    simulator = model.experiment.build_simulator(localizer)
    found = recalibrate(localizer, simulator, model.experiment.training.seed + HELD_OUT)
    return found


def judged(table: Localizations, truth: Localizations, offset: bool) -> Coverage:
    """Compare a table with the truth, in 3D where both know z."""
    dimensions = 3 if table.is_3d and truth.is_3d else 2
    if offset:
        table = remove_offset(table, find_offset(table, truth, dimensions=dimensions))
        pairs = match(table, truth, dimensions=dimensions)
        factor = float(np.median(truth.photons[pairs.truth] / table.photons[pairs.table]))
        table = table.with_columns(photons=factor * table.photons, sigma_photons=factor * table.sigma_photons)
    return coverage(table, truth, match(table, truth, dimensions=dimensions))


def localized(movie: Path, **how: Any) -> Localizations:
    """Localize a movie as the command does."""
    with tempfile.TemporaryDirectory() as folder:
        return read_table(localize(movie, Path(folder) / "t.parquet", **how).table)


def challenge(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Judge one model on its movies."""
    model = load_model(args.models / f"{name}.safetensors")
    found = corrected(model)
    assert found.correction is not None
    results: dict[str, Any] = {"own document": found.to_json()}
    for movie in (f"{name}_{density}" for density in ("LD", "HD")):
        file = args.data / f"{movie}.tif"
        if not file.exists():
            continue
        truth = read_table(args.data / f"{movie[3:]}_activations.csv")
        table = localized(file, model=model)
        before = judged(table, truth, offset=True)
        after = judged(found.correction.apply(table, model.experiment.pixel_size_nm), truth, offset=True)
        results[movie] = {"before": before.to_json(), "after": after.to_json()}
        say(movie, before, after)
    return results


def fits(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Judge fits of single emitters with the PSF of a model's document."""
    experiment = load_model(args.models / f"{name}.safetensors").experiment
    how = {
        "method": "single",
        "psf": experiment.psf,
        "camera": experiment.build_camera(),
        "pixel_size_nm": experiment.pixel_size_nm,
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        sparse = experiment.to_json()
        sparse["specimen"] |= {"density_per_um2": SPARSE_PER_UM2, "structure": {"kind": "uniform"}, "blinking": {"kind": "none"}}
        if not experiment.psf.tells_depth:
            sparse["specimen"]["z_nm"] = [0.0, 0.0]
        run = simulate(Experiment.from_json(sparse), Path(folder) / "m.tif", n_frames=1000, shape_px=(64, 64), seed=SEED)
        tables = {"lone molecules": (localized(run.movie, **how), read_table(run.truth), False)}
        movie = args.data / f"{name}_LD.tif"
        if movie.exists():
            tables[f"{name}_LD"] = (localized(movie, **how), read_table(args.data / f"{name[3:]}_LD_activations.csv"), True)
    for what, (table, truth, offset) in tables.items():
        found = judged(table, truth, offset)
        results[what] = found.to_json()
        say(f"fits, {name} {what}", found, found)
    return results


def say(what: str, before: Coverage, after: Coverage) -> None:
    """Print pull spread and shares within 1 and 2 sigma, and the same of lone emitters."""
    for name in before.pulls:
        one, two = before.pulls[name], after.pulls[name]
        texts = [f"{p.robust_sd:5.2f} {p.within(1.0):6.3f} {p.within(2.0):6.3f}" for p in (one, two)]
        print(f"{what:24s} {name:8s} {one.n:6d} pairs   {texts[0]}  ->  {texts[1]}", flush=True)
    for group in (g for g in after.by_neighbour if np.isinf(g.high)):
        texts = [f"{n} {p.robust_sd:.2f} {p.within(1.0):.3f} {p.within(2.0):.3f}" for n, p in group.pulls.items()]
        print(f"{what:24s} no other within {group.low:.0f} nm, {next(iter(group.pulls.values())).n} pairs: {', '.join(texts)}")
    if after.reliability:
        print(f"{what:24s} probability off by {before.probability_error:.3f} -> {after.probability_error:.3f}", flush=True)


def row(what: str, before: Coverage, after: Coverage) -> tuple[str, str]:
    """Make a row of the summary."""
    return what, f"{in_words(after.pulls)}; uncorrected {in_words(before.pulls).partition(' of errors')[0]}"


def main() -> None:
    """Judge all models that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/challenge/sim"))
    parser.add_argument("--models", type=Path, default=Path("runs/challenge"))
    parser.add_argument("--only", nargs="*", default=[*MODELS, *shipped_models(), "fits"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    summary: list[tuple[str, str]] = []
    for name in args.only:
        if name == "fits":
            results["fits"] = {each: fits(each, args) for each in ("AS_N1", "2D_N2")}
        elif name in shipped_models():
            found = corrected(find_model(name))
            results[name] = found.to_json()
            say(name, found.before, found.after)
            summary.append(row(f"sigma of {name} on its own simulations", found.before, found.after))
        else:
            results[name] = challenge(name, args)
    for movie, what in (
        (m, r) for found in results.values() for m, r in found.items() if isinstance(r, dict) and m[-3:] in ("_LD", "_HD")
    ):
        shares = [
            ", ".join(
                f"{n.removesuffix('_nm')} {100 * p['inside'][1]:.0f} and {100 * p['inside'][3]:.0f} %"
                for n, p in what[k]["pulls"].items()
            )
            for k in ("after", "before")
        ]
        text = f"{shares[0]} of errors within one and two sigma (68 and 95 % if right); uncorrected {shares[1]}"
        error = (
            f"; probability off by {what['after']['probability_error']:.3f}, uncorrected {what['before']['probability_error']:.3f}"
        )
        summary.append((f"sigma and probability on challenge-like {movie}", text + error))
    keep("coverage", seed=SEED, results=results, summary=summary)


if __name__ == "__main__":
    main()
