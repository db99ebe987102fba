"""Networks and maximum likelihood on the ten challenge-like movies: each alone, and both together.

    python benchmarks/accuracy/refinement.py --data ../shared/challenge/sim --models runs/spline

"network": the model of benchmarks/accuracy/challenge.py (--kind spline), its own threshold. "refined": its table through `denseloc refine`.
"fit alone": the same without prior and without sharing, so that each frame alone decides; "prior" and "sharing" with one of the two. "single" and
"multi": the classical methods with the spline PSF of the bead stack, as they are. Efficiencies against all emitters and the brighter three
quarters, one constant offset removed, as in challenge.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from challenge import CAMERA, MOVIES, marks, psf_of
from common import keep

from denseloc.data import Localizations
from denseloc.description import parse
from denseloc.evaluate import find_offset, remove_offset
from denseloc.formats import read_table
from denseloc.model_file import load_model
from denseloc.optics import PSFS
from denseloc.pipeline import localize
from denseloc.verbs import refine

VARIANTS: dict[str, dict[str, bool]] = {
    "refined": {},
    "prior": {"share_positions": False},
    "sharing": {"prior": False},
    "fit alone": {"prior": False, "share_positions": False},
}


def scores(table: Localizations, truth: Localizations, dimensions: int) -> dict[str, float]:
    """Compare with the truth after one constant offset."""
    return marks(remove_offset(table, find_offset(table, truth, dimensions=dimensions)), truth, dimensions)


def measure(movie: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run all methods on one movie."""
    dimensions = 2 if movie.startswith("2D") else 3
    file, truth = args.data / f"{movie}.tif", read_table(args.data / f"{movie[3:]}_activations.csv")
    values = psf_of(movie[:2], args.data, args.models, "spline")
    psf = parse(PSFS.get(values["kind"]), values, "psf")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        model = load_model(args.models / f"{movie[:5]}.safetensors")
        first = localize(file, out / "network.parquet", model=model)
        results["network"] = scores(read_table(first.table), truth, dimensions) | {"seconds": first.seconds}
        for name, options in VARIANTS.items():
            began = time.monotonic()
            made = refine(first.table, file, out / f"{name}.parquet".replace(" ", "_"), **options)
            results[name] = scores(read_table(made.table), truth, dimensions) | {"seconds": time.monotonic() - began}
        for method in ("single", "multi"):
            run = localize(file, out / f"{method}.parquet", method=method, psf=psf, camera=CAMERA.build(), pixel_size_nm=100.0)
            results[method] = scores(read_table(run.table), truth, dimensions) | {"seconds": run.seconds}
    return results


def main() -> None:
    """Measure all movies, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/challenge/sim"))
    parser.add_argument("--models", type=Path, default=Path("runs/spline"))
    parser.add_argument("--movies", nargs="*", default=[m for movies in MOVIES.values() for m in movies])
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    reference = json.loads((args.data / "reference.json").read_text())
    results, summary = {}, []
    for movie in args.movies:
        results[movie] = found = measure(movie, args)
        known = {
            "Spliner": {f"E_{t}": reference[movie]["spliner"][t]["efficiency"] for t in ("all", "p25")},
            "bound": {f"E_{t}": reference[movie]["isolated_bound"][t]["ceiling"]["efficiency"] for t in ("all", "p25")},
        }
        words = [f"{name} {row['E_all']:.1f} / {row['E_p25']:.1f}" for name, row in (found | known).items()]
        print(movie, "; ".join(words), flush=True)
        for name, row in found.items():
            axial = f" / {row['axial_all']:.0f}" if row["axial_all"] else ""
            print(
                f"    {name:10s} J {row['jaccard_all']:.1f}, {row['lateral_all']:.1f}{axial} nm, {row['seconds']:.0f} s", flush=True
            )
        summary.append((f"challenge-like movie {movie}, networks and fits", "E all / brighter three quarters: " + "; ".join(words)))
    keep("refinement", seed=1, results=results, summary=summary, file=args.results / "refinement.json")


if __name__ == "__main__":
    main()
