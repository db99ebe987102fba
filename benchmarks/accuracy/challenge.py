"""Accuracy on the ten challenge-like movies: bead stacks -> PSFs -> documents -> models -> tables -> efficiency.

    python benchmarks/accuracy/challenge.py --data ../shared/challenge/sim            everything, with the models in runs/challenge
    python benchmarks/accuracy/challenge.py --only train --models AS_N1               one stage, one model
    python benchmarks/accuracy/challenge.py --kind spline --out runs/spline --start runs/challenge --share 0.15
                                                        the same with spline PSFs; models go on from those of another folder

One model per modality and noise level. The first one (AS_N1) is trained from random weights, the others begin with another's weights; the
paper's size takes as many steps as fit into the same time.

"fixed" is our output as it is. "simulated" drops the least certain localizations (by probability and sigma), with limits chosen on frames that
are simulated from the model's own document at the density found in the movie: no truth of the movie takes part. "filtered" chooses these limits
on the truth of each movie, as the filters of the classical champion were. A constant offset is removed from all, as from his.
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

from denseloc.calibrate.psf_fit import fit_psf
from denseloc.calibrate.stack import BeadStack
from denseloc.camera import EMCCDSettings
from denseloc.data import Localizations
from denseloc.evaluate import assess, find_offset, remove_offset
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.model_file import Model, find_model, load_model
from denseloc.pipeline import localize
from denseloc.train import Progress, Trainer
from denseloc.training import train
from denseloc.verbs.simulation import simulate

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
STEPS = {"AS_N1": 8000, "2D_N1": 9000, "AS_N2": 2400, "DH_N1": 2800, "DH_N2": 1500, "2D_N2": 1500}
PACE = {"small": 1.0, "paper": 0.175}  # steps of a preset in the time of one of the small preset, on one thread
PACE_STEPS = 12  # that are timed
MOVIES = {m: [f"{m}_{d}" for d in ("LD", "HD") if (m[:2], d) != ("DH", "LD")] for m in MODELS}


def psf_of(modality: str, data: Path, folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Fit the PSF of a modality to its bead stack; kept as JSON."""
    kept = folder / f"psf_{modality}.json"
    if not kept.exists():
        formula, roi = PSF[modality]
        kind = kind or formula
        counts = tifffile.imread(data / f"beads_{modality}.tif")
        stack = BeadStack.of(counts, np.arange(-750, 751, 10.0), CAMERA.build(), f"beads_{modality}.tif")
        fit = fit_psf([stack], (100.0, 100.0), kind, roi_px=roi, map_step_nm=50, nodes_per_px=1)
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


def parent_of(name: str, preset: str) -> str | None:
    """Give the model that a model begins with; no shipped model has the paper's size."""
    parent = MODELS[name]
    return "AS_N1" if preset == "paper" and parent == "general-2d" else parent


def train_model(name: str, args: argparse.Namespace) -> None:
    """Train one model unless its file is there; goes on where it was interrupted."""
    file = args.out / f"{name}.safetensors"
    if file.exists():
        return
    steps = args.steps or round(args.share * PACE[args.preset] * STEPS[name])
    experiment = document(name, psf_of(name[:2], args.data, args.out, args.kind), args.preset, steps)
    parent = parent_of(name, args.preset)
    start = args.out / f"{parent}.safetensors" if parent in MODELS else parent
    if args.start is not None:
        start = args.start / f"{name}.safetensors"
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
    model.localizer.correction = None  # limits are sought among the network's own probabilities and sigmas
    usual = model.localizer.least_probability
    table = candidates_of(args.data / f"{movie}.tif", model)
    truth = read_table(args.data / f"{movie[3:]}_activations.csv")
    dimensions = 3 if three else 2
    table = remove_offset(table, find_offset(table.select(table.probability > 0.45), truth, dimensions=dimensions))

    def kept(probability: float, sigma_nm: float) -> dict[str, float]:
        chosen = table.select((table.probability > probability) & (np.hypot(table.sigma_x_nm, table.sigma_y_nm) < sigma_nm))
        return marks(chosen, truth, dimensions)

    fixed = kept(usual, np.inf)
    found = table.select(table.probability > usual)
    density = len(found) / (table.provenance.n_frames * 6.4**2)
    limits = choose_limits(model, density, dimensions)
    simulated = {key: value for t in limits for key, value in kept(*limits[t]).items() if key.endswith(t)}
    tried = [kept(*pair) for pair in pairs(table)]
    filtered = {k: v for t in limits for k, v in max(tried, key=lambda m: m[f"E_{t}"]).items() if k.endswith(t)}
    result = {"fixed": fixed, "simulated": simulated, "filtered": filtered, "limits": limits, "density_per_um2": density}
    training = {k: v for k, v in model.record.items() if k != "history"}
    training["total_minutes"] = round(minutes(model, args.start or args.out), 1)
    return {**result, "training": training}


def minutes(model: Model, parents: Path) -> float:
    """Give the minutes of one core that went into a model and those that it began with: steps times the pace, measured now.

    The seconds in the record are those of a clock, and count what else the machine did.
    """
    start = model.record.get("started_from")
    parent = parents / f"{start}.safetensors"
    before = 0.0 if start is None else minutes(load_model(parent) if parent.exists() else find_model(start), parents)
    document = model.experiment
    localizer = document.build_localizer()
    trainer = Trainer(localizer, document.build_simulator(localizer), document.training.model_copy(update={"steps": PACE_STEPS}))
    began = time.process_time()
    trainer.run()
    return before + (time.process_time() - began) / PACE_STEPS * model.record["steps"] / 60


def candidates_of(movie: Path, model: Model) -> Localizations:
    """Localize with a low threshold."""
    with tempfile.TemporaryDirectory() as folder:
        return read_table(localize(movie, Path(folder) / "t.parquet", model=model, threshold=0.2).table)


def marks(found: Localizations, truth: Localizations, dimensions: int) -> dict[str, float]:
    """Compare with the truth by the challenge's rule, against all emitters and the brighter three quarters."""
    result: dict[str, float] = {}
    for threshold in ("all", "p25"):
        score = assess(found, truth, dimensions=dimensions, threshold=threshold, field_nm=(6400.0, 6400.0)).to_json()
        result |= {
            f"E_{threshold}": score["efficiency_from_formula"]["E_3d" if dimensions == 3 else "E_lateral"],
            f"jaccard_{threshold}": score["jaccard_percent"],
            f"lateral_{threshold}": score["rmse_lateral_nm"],
            f"axial_{threshold}": score["rmse_axial_nm"] if dimensions == 3 else None,
        }
    return result


def pairs(table: Localizations) -> list[tuple[float, float]]:
    """Give the limits (least probability, largest lateral sigma in nm) that are tried."""
    quantiles = np.quantile(np.hypot(table.sigma_x_nm, table.sigma_y_nm), (0.8, 0.85, 0.9, 0.95))
    return [(p, float(s)) for p in (0.25, 0.35, 0.45, 0.55, 0.65, 0.75) for s in (*quantiles, np.inf)]


def choose_limits(model: Model, density_per_um2: float, dimensions: int) -> dict[str, tuple[float, float]]:
    """Choose the limits that serve best on a movie simulated from the model's document at a density."""
    low, high = model.experiment.specimen.density_per_um2
    density = min(max(density_per_um2, low), high)
    specimen = model.experiment.specimen.model_copy(update={"density_per_um2": (density, density)})
    with tempfile.TemporaryDirectory() as folder:
        run = simulate(
            model.experiment.model_copy(update={"specimen": specimen}),
            Path(folder) / "m.tif",
            n_frames=500,
            shape_px=(64, 64),
            seed=2,
        )
        table, truth = candidates_of(run.movie, model), read_table(run.truth)
    sigma = np.hypot(table.sigma_x_nm, table.sigma_y_nm)
    tried = {(p, s): marks(table.select((table.probability > p) & (sigma < s)), truth, dimensions) for p, s in pairs(table)}
    return {t: max(tried, key=lambda pair: tried[pair][f"E_{t}"]) for t in ("all", "p25")}


def evaluate_all(args: argparse.Namespace) -> None:
    """Evaluate every movie whose model is there, print the table and keep it."""
    reference = json.loads((args.data / "reference.json").read_text())
    results: dict[str, Any] = {}
    summary: list[tuple[str, str]] = []
    heads = ("Spliner", "bound", "fixed", "simulated", "filtered")
    print(
        f"{'movie':9s} {' '.join(f'{h:>13s}' for h in heads)}   way of fixed, simulated   J / lateral / axial (all, fixed)   trained"
    )
    for movie in (m for name in args.models for m in MOVIES[name]):
        if not (args.out / f"{movie[:5]}.safetensors").exists():
            continue
        result = evaluate_movie(movie, args)
        spliner = {t: reference[movie]["spliner"][t]["efficiency"] for t in ("all", "p25")}
        bound = {t: reference[movie]["isolated_bound"][t]["ceiling"]["efficiency"] for t in ("all", "p25")}
        result |= {"spliner": spliner, "bound": bound}
        results[movie] = result
        fixed, chosen = result["fixed"], result["simulated"]
        way = [(e["E_all"] - spliner["all"]) / (bound["all"] - spliner["all"]) for e in (fixed, chosen)]
        result["way_from_spliner_to_bound"] = dict(zip(("fixed", "simulated"), way, strict=True))
        own = [(e["E_all"], e["E_p25"]) for e in (fixed, chosen, result["filtered"])]
        texts = [f"{x:6.1f} {y:6.1f}" for x, y in ((spliner["all"], spliner["p25"]), (bound["all"], bound["p25"]), *own)]
        axial = f"{fixed['axial_all']:.0f}" if fixed["axial_all"] else "-"
        errors = f"{fixed['jaccard_all']:.1f} / {fixed['lateral_all']:.1f} / {axial}"
        spent = result["training"]["total_minutes"]
        print(f"{movie:9s} {' '.join(texts)}  {way[0]:5.2f} {way[1]:5.2f}   {errors}   {spent:.0f} min", flush=True)
        row = f"E {own[0][0]:.1f} / {own[0][1]:.1f} (all / brighter three quarters), {own[1][0]:.1f} / {own[1][1]:.1f} with limits from simulation"
        peers = f"Spliner {spliner['all']:.1f} / {spliner['p25']:.1f}, single-frame bound {bound['all']:.1f} / {bound['p25']:.1f}"
        what = f"challenge-like movie {movie}, {args.preset} preset{', spline PSF' if args.kind == 'spline' else ''}"
        summary.append((f"{what}, {spent:.0f} min of training on one core", f"{row}; {peers}"))
    name = f"challenge_{args.preset}{'_' + args.kind if args.kind else ''}"
    keep(name, seed=1, results=results, summary=summary, preset=args.preset, file=args.results / f"{name}.json")


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/challenge/sim"))
    parser.add_argument("--out", type=Path, default=Path("runs/challenge"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument(
        "--kind", choices=["spline"], help="PSF that is fitted to the beads, instead of each modality's formula with maps"
    )
    parser.add_argument("--start", type=Path, help="folder of models of the same names to begin with")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of STEPS")
    parser.add_argument("--steps", type=int, help="instead of those of STEPS")
    parser.add_argument("--minutes", type=float, default=60.0)
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
