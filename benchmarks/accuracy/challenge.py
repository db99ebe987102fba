"""Accuracy on the ten challenge-like movies: bead stacks -> PSFs -> documents -> models -> tables -> efficiency.

    python benchmarks/accuracy/challenge.py --data ../shared/challenge/sim            everything, with the models in runs/challenge
    python benchmarks/accuracy/challenge.py --only train --models AS_N1               one stage, one model

One model per modality and noise level. The first one (AS_N1) is trained from random weights, the others begin with another's weights.

"fixed" is our output as it is. "filtered" drops the least certain localizations (by probability and sigma), with the limits chosen on the
truth of each movie, as the filters of the classical champion were. A constant offset is removed from both, as from his.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from denseloc.calibrate.beads import fit_beads
from denseloc.camera import EMCCDSettings
from denseloc.data import Localizations
from denseloc.evaluate import assess, find_offset, remove_offset
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.model_file import Model, find_model, load_model
from denseloc.pipeline import localize
from denseloc.train import Progress
from denseloc.training import train

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

CAMERA = EMCCDSettings(
    offset_counts=100,
    electrons_per_count=45,
    em_gain=300,
    quantum_efficiency=0.9,
    spurious_electrons=0.002,
    read_noise_electrons=74.4,
)
PSF = {"2D": ("gaussian", 21), "AS": ("astigmatic", 21), "DH": ("double_helix", 27)}
NOISE = {"N1": (7853.0, 100.0), "N2": (1940.0, 25.0)}  # photons of a fully-on frame, background
MODELS = {"AS_N1": None, "2D_N1": "general-2d", "AS_N2": "AS_N1", "DH_N1": "AS_N1", "DH_N2": "DH_N1", "2D_N2": "2D_N1"}
MOVIES = {m: [f"{m}_{d}" for d in ("LD", "HD") if (m[:2], d) != ("DH", "LD")] for m in MODELS}


def fit_psf(modality: str, data: Path, folder: Path) -> dict[str, Any]:
    """Fit the PSF of a modality to its bead stack; kept as JSON."""
    kept = folder / f"psf_{modality}.json"
    if not kept.exists():
        kind, roi = PSF[modality]
        stack = tifffile.imread(data / f"beads_{modality}.tif")
        fit = fit_beads(
            stack, np.arange(-750, 751, 10.0), CAMERA.build(), (100.0, 100.0), kind, roi_px=roi, map_step_nm=50, nodes_per_px=1
        )
        print(f"{modality}: chi2 {fit.chi2_formula:.2f} by the formula, {fit.chi2:.2f} with maps")
        kept.write_text(json.dumps(fit.psf.model_dump(mode="json")))
    return json.loads(kept.read_text())


def document(name: str, psf: dict[str, Any], preset: str, steps: int) -> Experiment:
    """Write down the experiment of one modality and noise level."""
    photons, background = NOISE[name[3:]]
    return Experiment.from_json(
        {
            "name": name,
            "description": "challenge-like movies; PSF from the bead stack",
            "pixel_size_nm": 100,
            "psf": psf,
            "camera": CAMERA.model_dump(),
            "specimen": {
                "density_per_um2": [0.03, 2.0],
                "z_nm": [-700, 700],
                "structure": {"kind": "filaments", "fraction": 0.6, "count": [1, 3]},
                "blinking": {"kind": "four_state"},
                "photons": {"kind": "flux", "photons": photons, "relative": [0.4, 1.4]},
                "background": {"kind": "uniform", "photons": [0.9 * background, 1.1 * background]},
            },
            "localizer": PRESETS[preset],
            "training": {"steps": steps, "seed": 1},
        }
    )


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"kind": "decode", "preset": "small", "conditioned": True},
    "paper": {"kind": "decode", "preset": "paper", "conditioned": True, "decoding": "suppression", "upsampling": "icnr"},
}


def train_model(name: str, args: argparse.Namespace) -> None:
    """Train one model unless its file is there; goes on where it was interrupted."""
    folder = args.out
    file = folder / f"{name}.safetensors"
    if file.exists() and not args.again:
        return
    experiment = document(name, fit_psf(name[:2], args.data, folder), args.preset, args.steps)
    parent = None if args.preset == "paper" else MODELS[name]
    start = folder / f"{parent}.safetensors" if parent in MODELS else parent
    start = file if file.exists() else start
    began = time.monotonic()

    def report(progress: Progress) -> None:
        if progress.step % 250 == 0 or progress.messages:
            score = progress.score.to_json() if progress.score else {}
            print(
                f"{name} {progress.step}/{progress.steps} {progress.seconds:.0f} s loss {progress.loss:.3f} {score}",
                *progress.messages,
                flush=True,
            )

    def out_of_time() -> bool:
        return time.monotonic() - began > 60 * args.minutes

    train(experiment, file, start_from=start, resume=True, report=report, stop=out_of_time)


def evaluate_movie(movie: str, args: argparse.Namespace) -> dict[str, Any]:
    """Localize one movie and compare with its truth."""
    three = not movie.startswith("2D")
    model = load_model(args.out / f"{movie[:5]}.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        run = localize(args.data / f"{movie}.tif", Path(folder) / "t.parquet", model=model, threshold=0.2)
        table = read_table(run.table)
    truth = read_table(args.data / f"{movie[3:]}_activations.csv")
    dimensions = 3 if three else 2
    table = remove_offset(table, find_offset(table.select(table.probability > 0.45), truth, dimensions=dimensions))

    def marks(kept: Localizations) -> dict[str, float]:
        result: dict[str, float] = {}
        for threshold in ("all", "p25"):
            found = assess(kept, truth, dimensions=dimensions, threshold=threshold, field_nm=(6400.0, 6400.0)).to_json()
            efficiency = found["efficiency_from_formula"]
            result |= {
                f"E_{threshold}": efficiency["E_3d" if three else "E_lateral"],
                f"jaccard_{threshold}": found["jaccard_percent"],
                f"lateral_{threshold}": found["rmse_lateral_nm"],
                f"axial_{threshold}": found["rmse_axial_nm"] if three else None,
            }
        return result

    fixed = marks(table.select(table.probability > (0.45 if args.preset == "small" else 0.7)))
    sigma = np.hypot(table.sigma_x_nm, table.sigma_y_nm)
    limits = [(p, s) for p in (0.25, 0.35, 0.45, 0.55, 0.65, 0.75) for s in (*np.quantile(sigma, (0.8, 0.85, 0.9, 0.95)), np.inf)]
    tried = [marks(table.select((table.probability > p) & (sigma < s))) for p, s in limits]
    best = {t: max(range(len(tried)), key=lambda i: tried[i][f"E_{t}"]) for t in ("all", "p25")}
    filtered = {key: tried[best["all" if key.endswith("all") else "p25"]][key] for key in tried[0]}
    training = {k: v for k, v in model.record.items() if k != "history"} | {"total_minutes": round(minutes(model), 1)}
    return {"fixed": fixed, "filtered": filtered, "training": training}


def minutes(model: Model) -> float:
    """Give the minutes of training of a model and of those that it began with, on the threads of its record."""
    parent = MODELS.get(model.name)
    if "total_seconds" in model.record or parent is None or model.record.get("started_from") is None:
        return float(model.record.get("total_seconds", model.record["seconds"])) / 60
    file = Path("runs/challenge") / f"{parent}.safetensors"
    return float(model.record["seconds"]) / 60 + minutes(load_model(file) if parent in MODELS else find_model(parent))


def evaluate_all(args: argparse.Namespace) -> None:
    """Evaluate every movie whose model is there, print the table and keep it."""
    reference = json.loads((args.data / "reference.json").read_text())
    results: dict[str, Any] = {}
    summary: list[tuple[str, str]] = []
    print(
        f"{'movie':9s} {'Spliner':>13s} {'bound':>13s} {'fixed':>13s} {'filtered':>13s}   way   J / lateral / axial (all, fixed)   trained"
    )
    for movie in (m for name in args.models for m in MOVIES[name]):
        if not (args.out / f"{movie[:5]}.safetensors").exists():
            continue
        result = evaluate_movie(movie, args)
        spliner = {t: reference[movie]["spliner"][t]["efficiency"] for t in ("all", "p25")}
        bound = {t: reference[movie]["isolated_bound"][t]["ceiling"]["efficiency"] for t in ("all", "p25")}
        result |= {"spliner": spliner, "bound": bound}
        results[movie] = result
        f, g, t = result["fixed"], result["filtered"], result["training"]
        way = (f["E_all"] - spliner["all"]) / (bound["all"] - spliner["all"])
        result["way_from_spliner_to_bound"] = way
        columns = (spliner["all"], spliner["p25"], bound["all"], bound["p25"], f["E_all"], f["E_p25"], g["E_all"], g["E_p25"])
        texts = [f"{x:6.1f} {y:6.1f}" for x, y in zip(columns[::2], columns[1::2], strict=True)]
        axial = f"{f['axial_all']:.0f}" if f["axial_all"] else "-"
        errors = f"{f['jaccard_all']:.1f} / {f['lateral_all']:.1f} / {axial}"
        print(f"{movie:9s} {' '.join(texts)}  {way:4.2f}   {errors}   {t['total_minutes']:.0f} min", flush=True)
        row = f"E {f['E_all']:.1f} / {f['E_p25']:.1f} (all / brighter three quarters); Spliner {spliner['all']:.1f} / {spliner['p25']:.1f}"
        summary.append(
            (
                f"challenge-like movie {movie}, {args.preset} preset",
                f"{row}, single-frame bound {bound['all']:.1f} / {bound['p25']:.1f}",
            )
        )
    name = f"challenge_{args.preset}"
    keep(name, seed=1, results=results, summary=summary, preset=args.preset, file=args.results / f"{name}.json")


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/challenge/sim"))
    parser.add_argument("--out", type=Path, default=Path("runs/challenge"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--again", action="store_true", help="train models that are there for as many steps again")
    parser.add_argument("--only", choices=["train", "evaluate"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only != "evaluate":
        for name in args.models:
            train_model(name, args)
    if args.only != "train":
        evaluate_all(args)


if __name__ == "__main__":
    main()
