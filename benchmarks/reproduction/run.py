"""Every claim of the papers, tried: trains, measures, draws; then `make docs` makes docs/reproduction.md of the results.

    python benchmarks/reproduction/run.py                                  everything; what is trained already is not trained again
    python benchmarks/reproduction/run.py --only context stable            some of it
    python benchmarks/reproduction/run.py --scale 0.02 --models runs/try   a quick look, with a fiftieth of the training

Trainings go on where they were interrupted; the models in the folder `models` beside this file come with the project and are not trained again unless
they are moved away. Times of training are minutes of one core and the same for all that are compared.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch
from claims import ROOT, Setting

from denseloc.machine import keep_memory

EXPERIMENTS = (
    "stable",
    "rescaling",
    "context",
    "deep_storm",
    "deep_storm_3d",
    "luenn",
    "voxel_wise",
    "mismatch",
    "adaptation",
    "fisher_mask",
    "learned_mask",
    "colour",
    "suitability",
)


def main() -> None:
    """Run the experiments asked for, each a file with a function ``run``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared", help="folder with the data and the challenge movies")
    parser.add_argument("--models", type=Path, default=Path("runs/reproduction"), help="folder that keeps what is trained")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all training times")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_memory()
    for name in args.only:
        importlib.import_module(name).run(Setting(args.data, args.models, args.scale))


if __name__ == "__main__":
    main()
