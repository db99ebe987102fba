"""Count on simulations how true the uncertainties of a model, or of a method without training, are, and put them right in a model file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ModelError, OutputError
from ..experiment import Experiment
from ..files import check_writable
from ..localize.fitting import Fitting
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

    A document of a method without training ("single", "multi") serves as well. What is written is a model file without weights: the method
    with the document's PSF and the correction.

    Args:
        model: the model's file, the name of a shipped one, or the document of a method that needs no training. A correction that it has already
            is replaced.
        out: model file to write; None renews the file of the model.
        device: "cpu", "cuda", ...; the best one there is if None.
        progress: told batches of simulated frames done and planned.

    Raises:
        DocumentError: the document cannot be read.
        ModelError: no model, a document of a network, a method that states no uncertainties, or too few emitters are found on simulations.
        OutputError: the file cannot be written.
    """
    is_document = Path(model).suffix in (".toml", ".json")
    if out is None and (is_document or str(model) in shipped_models()):
        what = f"{model} is a document" if is_document else f"model {model} belongs to the package"
        raise OutputError(f"{what}; say where the corrected model is to be written: -o MODEL{SUFFIX}")
    target = Path(model if out is None else out)
    if target.suffix != SUFFIX:
        raise OutputError(f"model file {target.name}: expected a name that ends in {SUFFIX}")
    given = _untrained(Path(model)) if is_document else find_model(model)
    check_writable(target)
    localizer, document = given.localizer, given.experiment
    if not getattr(document.localizer, "states_sigma", True):
        raise ModelError(f"a localizer of kind '{document.localizer.kind}' states no standard deviations; nothing to correct")
    keep_memory()
    chosen = choose_device(device)
    localizer.to(chosen)
    simulator = document.build_simulator(localizer, chosen)
    found = put_right(localizer, simulator, document.training.seed + HELD_OUT, report=progress)
    localizer.cpu()
    if found.correction is None:
        remedy = "train it longer" if document.localizer.needs_training else "give a document whose molecules it can find"
        raise ModelError(
            f"{model} finds {found.before.n_pairs} emitters in {sum(found.frames)} frames of its own simulations, expected {LEAST_PAIRS} or more; "
            f"{remedy}"
        )
    localizer.correction = found.correction
    corrected = replace(given, record={**given.record, "uncertainty": found.to_json()}, name=target.stem)
    save_model(target, corrected)
    return Recalibrated(target, corrected, found)


def _untrained(path: Path) -> Model:
    """Make the method of a document, with the document's PSF in its section, so that the model file needs nothing else."""
    document = Experiment.from_file(path)
    localizer = document.build_localizer()
    if not isinstance(localizer, Fitting):
        raise ModelError(
            f"{path}: a localizer of kind '{document.localizer.kind}' must be trained, and its training ends with this: denseloc train {path.name}"
        )
    return Model(localizer, document.model_copy(update={"localizer": localizer.settings}), {}, path.stem)
