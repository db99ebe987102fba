"""Model files: weights as safetensors with the experiment, the units and the training record as JSON inside."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .data import COLUMNS, CONVENTIONS
from .description import nearest
from .errors import DenselocError, ModelError
from .experiment import Experiment
from .files import replacing
from .localize import Correction, InputConditions, Localizer, Scales
from .optics.colours import MOST_CHANNELS

FORMAT = 1
SUFFIX = ".safetensors"
MOST_PLANES = 64


@dataclass(frozen=True)
class Model:
    """A trained localizer with the experiment that it was made for.

    Args:
        localizer: ready for use.
        experiment: the document.
        record: how it was trained: steps, seconds, history of scores, versions.
        name: file name without suffix.
    """

    localizer: Localizer
    experiment: Experiment
    record: Mapping[str, Any] = field(default_factory=dict)
    name: str = "model"

    @property
    def fingerprint(self) -> str:
        """Identify the weights and what corrects the uncertainties: 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, value in sorted(self.localizer.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        if self.localizer.correction is not None:
            digest.update(json.dumps(self.localizer.correction.to_json(), sort_keys=True).encode())
        return digest.hexdigest()[:16]

    @property
    def uncertainty(self) -> dict[str, Any] | None:
        """What is known of its uncertainties: the correction in words and the coverage on simulations; None where nothing is."""
        correction, record = self.localizer.correction, self.record.get("uncertainty")
        measured = record if isinstance(record, dict) and isinstance(record.get("after"), dict) else {}
        if correction is None and not measured:
            return None
        known = {
            "correction": None if correction is None else correction.describe(),
            "simulated_frames": measured.get("frames_checked"),
            "pulls": measured.get("after", {}).get("pulls"),
        }
        return known if "colours" not in measured else {**known, "colours": measured["colours"]}


def save_model(path: Path | str, model: Model) -> None:
    """Write a model file; weights are kept in 16 bit, whose rounding lies below that of the arithmetic.

    Raises:
        ModelError: weights are not finite in 16 bit; nothing is written.
        OutputError: the file cannot be written.
    """
    notes: dict[str, Any] = {
        "format": FORMAT,
        "experiment": model.experiment.to_json(),
        "scales": _plain_scales(model.localizer.scales),
        "record": dict(model.record),
        "conventions": CONVENTIONS,
        "columns": {column.name: column.unit for column in COLUMNS.values()},
    }
    if model.localizer.correction is not None:
        notes["correction"] = model.localizer.correction.to_json()
    tensors = {name: _halved(value.detach().cpu()).contiguous() for name, value in model.localizer.state_dict().items()}
    astray = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if astray:
        raise ModelError(
            f"{path} was not written: weights such as '{astray[0]}' are not finite or above 65504, the training went astray; lower "
            "training.learning_rate and training.muon_rate, and train anew"
        )
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"denseloc": json.dumps(notes)})


def _halved(tensor: Tensor) -> Tensor:
    """Give real numbers in 16 bit, and whole numbers (counters, indices) as they are."""
    return tensor.half() if tensor.is_floating_point() else tensor


def _whole(tensor: Tensor) -> Tensor:
    """Undo `_halved`."""
    return tensor.float() if tensor.is_floating_point() else tensor


def load_model(path: Path | str) -> Model:
    """Read a model file.

    Raises:
        ModelError: not there, damaged, of a newer version, or not a model.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"no model file {path}; give a file or one of: {', '.join(shipped_models())}")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("denseloc")
            tensors = {name: _whole(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged or not a model file ({str(error).splitlines()[0]}); train it again or fetch it anew"
        ) from None
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ModelError(f"{path} holds weights that are not finite; train it again or fetch it anew")
    if text is None:
        raise ModelError(f"{path} holds tensors but no denseloc document; give a model made by 'denseloc train'")
    try:
        notes = json.loads(text)
        version = int(notes["format"])
        record = notes.get("record", {})
        if not isinstance(record, dict) or not all(isinstance(entry, dict) for entry in record.get("history", ())):
            raise ValueError("the record of the training is not one")
        correction = Correction.from_json(notes["correction"]) if "correction" in notes else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ModelError(f"{path}: the document inside is damaged; train it again or fetch it anew") from None
    if version > FORMAT:
        raise ModelError(f"{path} is a model of format {version}, this denseloc reads up to {FORMAT}; install a newer denseloc")
    try:
        experiment = Experiment.from_json(notes["experiment"], str(path))
        localizer = experiment.localizer.build(_scales(notes["scales"]))
        localizer.load_state_dict(tensors)
        localizer.correction = correction
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError, DenselocError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: weights and document do not fit together ({reason}); train it again") from None
    return Model(localizer.eval(), experiment, record, path.stem)


def _plain_scales(scales: Scales) -> dict[str, Any]:
    """Give scales as plain values; those of one colour do not name it, so that older programs read them."""
    values = asdict(scales)
    if scales.channels == 1:
        del values["channels"]
    return values


def _scales(values: Mapping[str, Any]) -> Scales:
    reference = InputConditions(**values["reference"])
    y, x = values["pixel_size_nm"]
    scales = Scales(**{**values, "pixel_size_nm": (float(y), float(x)), "reference": reference})
    numbers = {**vars(scales), **vars(reference), "pixel_size_nm": y + x, "reference": 0}
    for name, value in numbers.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"'{name}' is {str(value)[:40]}, expected a number")
    if type(scales.planes) is not int or not 1 <= scales.planes <= MOST_PLANES:
        raise ValueError(f"'planes' is {scales.planes}, expected 1 to {MOST_PLANES}")
    if type(scales.channels) is not int or not 1 <= scales.channels <= MOST_CHANNELS:
        raise ValueError(f"'channels' is {scales.channels}, expected 1 to {MOST_CHANNELS}")
    return scales


def shipped_models() -> dict[str, Path]:
    """List the models that come with the package: name and file."""
    folder = Path(str(resources.files("denseloc") / "models"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_model(name: str | Path) -> Model:
    """Load a model by file or by the name of a shipped one; the error offers the nearest name."""
    known = shipped_models()
    if str(name) in known:
        return load_model(known[str(name)])
    if Path(name).suffix.lower() in (".toml", ".json"):
        raise ModelError(f"{name} is a document, expected a model file; train it first: denseloc train {name} -o MODEL{SUFFIX}")
    if Path(name).suffix == SUFFIX or Path(name).exists():
        return load_model(name)
    raise ModelError(
        f"no model '{name}'{nearest(str(name), known)}; shipped models: {', '.join(known) or 'none'}; or give a {SUFFIX} file"
    )


def initialise_from(localizer: Localizer, other: Localizer) -> int:
    """Begin from another model's weights where names and shapes agree; gives the number of tensors taken."""
    mine = localizer.state_dict()
    taken = {name: value for name, value in other.state_dict().items() if name in mine and mine[name].shape == value.shape}
    with torch.no_grad():
        localizer.load_state_dict({**mine, **taken})
    return len(taken)
