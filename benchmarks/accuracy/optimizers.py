"""Muon against AdamW: the astigmatic document, equal steps, equal batches; loss and score on held-out windows.

python benchmarks/accuracy/optimizers.py --steps 400
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from denseloc.experiment import Experiment
from denseloc.localize import Decode
from denseloc.machine import keep_memory
from denseloc.train import Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import RESULTS, keep


def main() -> None:
    """Train both for a short while and keep how far they came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=Path("experiments/astigmatic-demo.toml"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS / "optimizers.json")
    args = parser.parse_args()
    keep_memory()
    experiment = Experiment.from_file(args.document)
    results = {}
    for optimizer in ("muon", "adamw"):
        settings = experiment.training.model_copy(update={"optimizer": optimizer, "steps": args.steps})
        localizer = experiment.build_localizer()
        assert isinstance(localizer, Decode)
        trainer = Trainer(localizer, experiment.build_simulator(localizer), settings)
        trainer.run()
        assert trainer.score is not None
        results[optimizer] = {"loss": round(trainer.loss, 3), "seconds": round(trainer.seconds), **trainer.score.to_json()}
        print(optimizer, results[optimizer], flush=True)
    keep("optimizers", seed=experiment.training.seed, results=results, summary=[], file=args.out, steps=args.steps)


if __name__ == "__main__":
    main()
