"""Real movies: tables, pictures and reports of three of them, with what can be checked.

    python benchmarks/accuracy/real.py --data ../shared/data

locan      2D dSTORM, sparse: compared with the table that another program gave for the same frames
cell       2D STORM of a cell with uneven background
tubulins   dense 3D astigmatism at 45 degrees with its own bead stack: PSF from the beads, a model trained for it, then the movie
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from denseloc import verbs
from denseloc.calibrate.psf_fit import fit_psf
from denseloc.calibrate.stack import BeadStack
from denseloc.camera import SCMOSSettings
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.model_file import load_model
from denseloc.pipeline import localize
from denseloc.train import Progress
from denseloc.training import train

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

# offset as its authors say; electrons per count from the movie's own noise (they say 0.6; the frames are less noisy than that)
TUBULIN_CAMERA = SCMOSSettings(offset_counts=99, electrons_per_count=1.83, read_noise_electrons=1.5)


def tubulins_document(data: Path, out: Path, steps: int) -> Experiment:
    """Fit the PSF to the bead stack and write down the experiment."""
    kept = out / "psf_tubulins.json"
    if not kept.exists():
        counts = tifffile.imread(data / "3denseSTORM/real_3d_astigmatism/calibration.tif")
        stack = BeadStack.of(counts, np.arange(-400, 401, 10.0), TUBULIN_CAMERA.build(), "calibration.tif")
        fit = fit_psf([stack], (65.0, 65.0), "astigmatic", roi_px=27, nodes_per_px=1)
        print(f"bead: chi2 {fit.chi2_formula:.2f} by the formula, {fit.chi2:.2f} with maps")
        kept.write_text(json.dumps(fit.psf.model_dump(mode="json")))
    return Experiment.from_json(
        {
            "name": "tubulins",
            "description": "dense astigmatic movie, axes at 45 degrees, PSF from one bead",
            "pixel_size_nm": 65,
            "psf": json.loads(kept.read_text()),
            "camera": TUBULIN_CAMERA.model_dump(),
            "specimen": {
                "density_per_um2": [0.1, 6.0],
                "z_nm": [-400, 400],
                "structure": {"kind": "filaments", "fraction": 0.6, "count": [1, 4]},
                "blinking": {"kind": "exponential", "lifetime_frames": [0.7, 4.0]},
                "photons": {"kind": "log_uniform", "low": 400, "high": 8000, "spread": 0.5},
                "background": {"kind": "slowly_varying", "photons": [40, 200], "amplitude": 0.15},
            },
            "localizer": {"kind": "decode", "preset": "small", "conditioned": True},
            "training": {"steps": steps, "seed": 1},
        }
    )


def run_locan(args: argparse.Namespace) -> dict[str, Any]:
    """Localize the sparse movie and look for each row of the other program's table that lies in its five frames."""
    run = localize(args.data / "Locan/images.tif", args.out / "locan.parquet", pixel_size_nm=133)
    table = read_table(run.table)
    rows = np.loadtxt(args.data / "Locan/rapidSTORM_from_images.txt")
    inside = rows[rows[:, 2] < 5]
    nearest = []
    for x, y, frame in inside[:, :3]:
        here = table.select(table.frame == int(frame))
        if len(here):
            i = int(np.argmin(np.hypot(here.x_nm - x, here.y_nm - y)))
            nearest.append((here.x_nm[i] - x, here.y_nm[i] - y))
    differences = np.array(nearest)
    offset = np.median(differences, axis=0)
    within = int((np.hypot(*(differences - offset).T) < 60).sum())
    return {
        "rows_in_table": len(rows),
        "rows_in_the_movie's_frames": len(inside),
        "matched_within_60_nm": within,
        "offset_nm": [round(float(v), 1) for v in offset],
        "localizations": len(table),
        "assumed": run.assumed,
        "warnings": run.warnings,
    }


def run_cell(args: argparse.Namespace) -> dict[str, Any]:
    """Localize the cell."""
    run = localize(args.data / "storm-analysis/test_bg_sub.dax", args.out / "cell.parquet", pixel_size_nm=160)
    return {"localizations": run.localizations, "frames": run.frames, "assumed": run.assumed, "warnings": run.warnings}


def run_tubulins(args: argparse.Namespace) -> dict[str, Any]:
    """Train a model for the dense movie if there is none yet, and localize it."""
    file = args.out / "tubulins.safetensors"
    if not file.exists():

        def report(progress: Progress) -> None:
            if progress.step % 250 == 0 or progress.messages:
                score = progress.score.to_json() if progress.score else {}
                print(f"tubulins {progress.step}/{progress.steps} {progress.seconds:.0f} s {score}", *progress.messages, flush=True)

        train(tubulins_document(args.data, args.out, args.steps), file, start_from=args.start_from, resume=True, report=report)
    model = load_model(file)
    movie = args.data / "3denseSTORM/real_3d_astigmatism/tubulins.tif"
    run = localize(movie, args.out / "tubulins.parquet", model=model, pixel_size_nm=65)
    table = read_table(run.table)
    return {
        "localizations": run.localizations,
        "per_um2_and_frame": round(run.localizations / 400 / (70 * 0.065) ** 2, 2),
        "median_sigma_nm": [round(float(np.median(table.columns[f"sigma_{a}_nm"])), 1) for a in "xyz"],
        "assumed": run.assumed,
        "warnings": run.warnings,
        "training": {k: v for k, v in model.record.items() if k != "history"},
    }


RUNS = {"locan": run_locan, "cell": run_cell, "tubulins": run_tubulins}


def main() -> None:
    """Run the movies asked for; tables, pictures and reports go to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--movies", nargs="*", default=list(RUNS))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--start-from", default="astigmatic-demo")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in args.movies:
        results[name] = RUNS[name](args)
        table = args.out / f"{name}.parquet"
        verbs.render(table, args.out / f"{name}.png", colour="z" if name == "tubulins" else "none")
        verbs.report(table, args.out / f"{name}.html")
        print(name, json.dumps({k: v for k, v in results[name].items() if k != "assumed"}, indent=1))
    summary = [(f"real movie {name}", f"{r['localizations']} localizations") for name, r in results.items()]
    keep("real", seed=1, results=results, summary=summary)


if __name__ == "__main__":
    main()
