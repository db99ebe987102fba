"""The design stair as one verb: from a document to a model file."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .errors import ModelError, OutputError, TrainingError
from .experiment import Experiment
from .files import alone, check_writable
from .localize import TrainableLocalizer
from .machine import choose_device, keep_memory
from .model_file import SUFFIX, Model, find_model, initialise_from, load_model, save_model
from .train import Progress, Trainer, complete, make_ready


def train(
    experiment: Experiment | Path | str,
    out: Path | str,
    *,
    start_from: Path | str | None = None,
    device: str | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Model:
    """Train a localizer from simulations and write a model file.

    At the end its uncertainties are compared with the truth of other simulations, and corrected.

    Args:
        experiment: the document, or its file.
        out: the model file to write, ending in .safetensors. A checkpoint beside it (``.checkpoint``) is kept up during training.
        start_from: model whose weights to begin with; a model for a similar microscope saves most of the time.
        device: "cpu", "cuda", ...; the best one there is if None.
        resume: go on from the checkpoint; the result equals that of an uninterrupted training. A model that a training of the same document has
            finished is left as it is.
        report: told how it goes.
        stop: asked before each step; True ends the training with the weights so far in the checkpoint and no model file.

    Raises:
        DocumentError, ModelError, OutputError, TrainingError.
    """
    document = experiment if isinstance(experiment, Experiment) else Experiment.from_file(experiment)
    out = Path(out)
    if out.suffix != SUFFIX:
        raise OutputError(f"model file {out.name}: expected a name that ends in {SUFFIX}")
    check_writable(out)
    with alone(out):
        finished = _finished(out, document, start_from) if resume else None
        return finished or _taught(document, out, start_from, device, resume, report, stop)


def _finished(out: Path, document: Experiment, start_from: Path | str | None) -> Model | None:
    """Load the model that an earlier training of the same document has finished; None where there is none, or work to go on with.

    A model file is written when all is done, the late part and the count of errors too, and the checkpoint goes then: what else its record
    holds depends on the kind and on the version that trained it.
    """
    if out.with_suffix(".checkpoint").exists() or not out.exists():
        return None
    try:
        there = load_model(out)
    except ModelError:
        return None
    begun, known = None if start_from is None else Path(start_from).stem, there.record
    same = _mark(there.experiment, None) == _mark(document, None) and known.get("started_from") == begun
    return there if same and known.get("steps") == document.training.steps else None


def _taught(
    document: Experiment,
    out: Path,
    start_from: Path | str | None,
    device: str | None,
    resume: bool,
    report: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Model:
    """Train; arguments as in `train`."""
    checkpoint = out.with_suffix(".checkpoint")
    if checkpoint.exists() and not resume:
        raise TrainingError(
            f"{checkpoint} holds an unfinished training; go on with it (--resume, in Python resume=True), or remove it to begin anew"
        )
    keep_memory()
    chosen = choose_device(device)
    localizer = document.build_localizer()
    if not isinstance(localizer, TrainableLocalizer):
        raise TrainingError(f"a localizer of kind '{document.localizer.kind}' needs no training")
    make_ready(localizer, document.training, chosen, goes_on=checkpoint.exists())
    spent_before = 0.0
    if start_from is not None:
        parent = find_model(start_from)
        spent_before = float(parent.record.get("total_seconds", parent.record.get("seconds", 0.0)))
        taken = initialise_from(localizer, parent.localizer)
        if taken == 0:
            raise ModelError(f"{start_from}: none of its weights fit the localizer of the document; begin without it")
    trainer = Trainer(
        localizer, document.build_simulator(localizer, chosen), document.training, chosen, checkpoint, _mark(document, start_from)
    )
    if resume:
        trainer.resume()
    trainer.run(report, stop=stop)
    uncertainty = complete(trainer, report, stop)
    record = _record(trainer, start_from, spent_before)
    if uncertainty is None:
        return Model(localizer.cpu().eval(), document, record, out.stem)
    save_model(out, Model(localizer.cpu().eval(), document, {**record, "uncertainty": uncertainty}, out.stem))
    checkpoint.unlink(missing_ok=True)
    return load_model(out)


def _mark(document: Experiment, start_from: Path | str | None) -> str:
    """Identify what a checkpoint belongs to."""
    start = None if start_from is None else Path(start_from).stem
    return hashlib.sha256(json.dumps([document.to_json(), start], sort_keys=True).encode()).hexdigest()


def _record(trainer: Trainer, start_from: Path | str | None, spent_before: float) -> dict[str, Any]:
    return {
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "total_seconds": round(spent_before + trainer.seconds, 1),
        "simulation_share": round(trainer.simulating / max(trainer.seconds, 1e-9), 4),
        "device": torch.cuda.get_device_name(trainer.device)
        if trainer.device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seed": trainer.settings.seed,
        "started_from": None if start_from is None else Path(start_from).stem,
        "rollbacks": trainer.rollbacks,
        "history": trainer.history,
    }
