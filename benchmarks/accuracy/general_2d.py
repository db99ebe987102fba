"""The general 2D model on movies it has not seen, with no setting but the pixel size: Jaccard and RMSE beside those of the peers.

    python benchmarks/accuracy/general_2d.py --data ../shared/data

The peers' marks were measured on the same movies (Hungarian pairing per frame within 250 nm; ours is greedy, closest first, which can only
find fewer pairs).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from denseloc.data import Localizations
from denseloc.evaluate import match
from denseloc.formats import read_table
from denseloc.model_file import find_model
from denseloc.pipeline import localize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import RESULTS, keep

# Jaccard, RMSE nm: 3D-DAOSTORM default, 3D-DAOSTORM tuned on the truth, Picasso default
PEERS = {
    "d0.1_n1000": ((0.978, 20.8), (0.995, 9.28), (0.973, 23.2)),
    "d0.1_n5000": ((0.991, 11.4), (0.999, 3.65), (0.985, 20.9)),
    "d1_n1000": ((0.862, 42.8), (0.939, 23.2), (0.740, 64.6)),
    "d1_n5000": ((0.869, 41.4), (0.957, 17.3), (0.765, 64.4)),
    "d3_n1000": ((0.682, 65.2), (0.875, 40.5), (0.388, 84.0)),
    "d3_n5000": ((0.696, 59.1), (0.906, 30.9), (0.453, 90.6)),
}


def movies(data: Path) -> Iterator[tuple[str, Path, Localizations]]:
    """Give each movie with its truth."""
    for name in PEERS:
        truth = np.load(data / "peersim" / f"{name}.npz")
        columns = {"frame": truth["frame"], "x_nm": (truth["x"] + 0.5) * 100, "y_nm": (truth["y"] + 0.5) * 100}
        yield name, data / "peersim" / f"{name}.tif", Localizations(columns)
    yield "Deep-STORM demo", data / "Deep-STORM/ArtificialDataset_demo1.tif", read_table(data / "Deep-STORM/positions_demo1.csv")
    import openpyxl

    book = openpyxl.load_workbook(data / "Deep-STORM/Positions_Bundeld_Tubulin_Recreated.xlsx", read_only=True)
    rows = np.array([row[:3] for row in book.active.iter_rows(min_row=2, values_only=True) if row[0] is not None], float)
    columns = {"frame": rows[:, 0].astype(int) - 1, "x_nm": rows[:, 1], "y_nm": rows[:, 2]}
    yield "Deep-STORM tubules", data / "Deep-STORM/testStack_SimulatedMicrotubules.tif", Localizations(columns)


def mark(table: Localizations, truth: Localizations) -> dict[str, float]:
    """Compare with the truth, in 2D within 250 nm, without border."""
    pairs = match(table, truth, dimensions=2)
    dx, dy = (pairs.difference(name, table, truth) for name in ("x_nm", "y_nm"))
    return {
        "jaccard": len(pairs) / (len(table) + len(truth) - len(pairs)),
        "recall": len(pairs) / len(truth),
        "precision": len(pairs) / max(1, len(table)),
        "rmse_nm": float(np.sqrt(np.mean(dx**2 + dy**2))),
        "pull_x": float(np.std(dx / table.sigma_x_nm[pairs.table])),
    }


def main() -> None:
    """Localize, compare, print and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="general-2d")
    parser.add_argument("--out", type=Path, default=RESULTS / "general_2d.json")
    args = parser.parse_args()
    model = find_model(args.model)
    results = {}
    print(
        f"{'movie':20s} {'Jaccard':>8s} {'RMSE nm':>8s} {'recall':>7s} {'precis.':>7s} {'pull':>5s}   peers: DAOSTORM default, tuned, Picasso"
    )
    for name, path, truth in movies(args.data):
        with tempfile.TemporaryDirectory() as folder:
            run = localize(path, Path(folder) / "t.parquet", model=model, pixel_size_nm=100)
            result = mark(read_table(run.table), truth)
        results[name] = result | {"warnings": run.warnings}
        peers = "   ".join(f"{j:.3f} {r:.1f}" for j, r in PEERS.get(name, ()))
        r = result
        print(
            f"{name:20s} {r['jaccard']:8.3f} {r['rmse_nm']:8.2f} {r['recall']:7.3f} {r['precision']:7.3f} {r['pull_x']:5.2f}   {peers}"
        )
    tuned = {
        name: dict(zip(("daostorm_default", "daostorm_tuned", "picasso_default"), p, strict=True)) for name, p in PEERS.items()
    }
    summary = []
    for name, result in results.items():
        theirs = PEERS.get(name)
        beside = (
            "; 3D-DAOSTORM {:.3f}, {:.1f} nm (tuned on the truth {:.3f}, {:.1f} nm)".format(*theirs[0], *theirs[1])
            if theirs
            else ""
        )
        summary.append((f"general 2D model, {name}", f"Jaccard {result['jaccard']:.3f}, RMSE {result['rmse_nm']:.1f} nm{beside}"))
    training = {key: value for key, value in model.record.items() if key != "history"}
    seed = model.experiment.training.seed
    keep("general_2d", seed=seed, results=results, summary=summary, file=args.out, model=model.name, training=training, peers=tuned)


if __name__ == "__main__":
    main()
