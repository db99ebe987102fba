"""Count on simulations how true a model's uncertainties are, and put them right in its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ModelError, OutputError
from ..files import check_writable
from ..localize import TrainableLocalizer
from ..machine import choose_device, keep_memory
from ..model_file import SUFFIX, Model, find_model, save_model, shipped_models
from ..train import Recalibration
from ..train import recalibrate as put_right
from ..train.recalibrate import HELD_OUT, LEAST_PAIRS


@dataclass(frozen=True)
class Recalibrated:
    """What a recalibration left behind.

    Args:
        file: the model file.
        model: with the correction.
        found: coverage before and after.
    """

    file: Path
    model: Model
    found: Recalibration


def recalibrate(
    model: Path | str,
    out: Path | str | None = None,
    *,
    device: str | None = None,
    progress: Callable[[int, int], None] = lambda done, n: None,
) -> Recalibrated:
    """Correct the uncertainties of a trained model, as the end of a training does; weights and positions stay as they are.

    Args:
        model: the model's file, or the name of a shipped one. A correction that it has already is replaced.
        out: model file to write; None renews the file of the model.
        device: "cpu", "cuda", ...; the best one there is if None.
        progress: told batches of simulated frames done and planned.

    Raises:
        ModelError: no model, one that needs no training, or one that finds too few emitters on its own simulations.
        OutputError: the file cannot be written.
    """
    if out is None and str(model) in shipped_models():
        raise OutputError(f"model {model} belongs to the package; say where the corrected one is to be written: -o MODEL{SUFFIX}")
    target = Path(model if out is None else out)
    if target.suffix != SUFFIX:
        raise OutputError(f"model file {target.name}: expected a name that ends in {SUFFIX}")
    given = find_model(model)
    check_writable(target)
    localizer, document = given.localizer, given.experiment
    if not isinstance(localizer, TrainableLocalizer):
        raise ModelError(
            f"a localizer of kind '{document.localizer.kind}' states Cramer-Rao bounds and learns nothing; nothing to correct"
        )
    keep_memory()
    chosen = choose_device(device)
    localizer.to(chosen)
    simulator = document.build_simulator(localizer, chosen)
    found = put_right(localizer, simulator, document.training.seed + HELD_OUT, report=progress)
    localizer.cpu()
    if found.correction is None:
        raise ModelError(
            f"{model} finds {found.before.n_pairs} emitters in {sum(found.frames)} frames of its own simulations, expected {LEAST_PAIRS} or more; "
            "train it longer"
        )
    localizer.correction = found.correction
    corrected = replace(given, record={**given.record, "uncertainty": found.to_json()}, name=target.stem)
    save_model(target, corrected)
    return Recalibrated(target, corrected, found)
