"""Checkpoints: tensors as safetensors, the rest as JSON inside; nothing that could run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..errors import TrainingError
from ..files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from ..description import Section

    class Resumable(Protocol):
        """What a checkpoint can keep: a training that has the numbers of `NUMBERS` as well."""

        mark: str
        generator: torch.Generator

        @property
        def settings(self) -> Section:
            """What the document says; a checkpoint of other settings is refused."""

        @property
        def optimizers(self) -> Sequence[torch.optim.Optimizer]:
            """In a fixed order."""

        def parts(self) -> Mapping[str, nn.Module]:
            """Give by name what they change."""


NUMBERS = ("step", "rate", "seconds", "simulating", "loss", "norm", "rollbacks", "history")


def save_checkpoint(path: Path, trainer: Resumable) -> None:
    """Write everything that the next step depends on."""
    tensors = {f"{part}.{k}": v for part, module in trainer.parts().items() for k, v in module.state_dict().items()}
    for i, optimizer in enumerate(trainer.optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["generator"] = trainer.generator.get_state()
    notes: dict[str, Any] = {name: getattr(trainer, name) for name in NUMBERS}
    notes["mark"] = trainer.mark
    notes["settings"] = trainer.settings.model_dump(mode="json")
    with replacing(path) as temporary:
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary, {"denseloc": json.dumps(notes)}
        )


def load_checkpoint(path: Path, trainer: Resumable) -> bool:
    """Take up a checkpoint; gives False if there is none.

    Raises:
        TrainingError: the file is damaged, or belongs to another document.
    """
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt") as file:
            notes = _notes((file.metadata() or {}).get("denseloc", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if notes.get("settings") != trainer.settings.model_dump(mode="json") or notes.get("mark") != trainer.mark:
            raise TrainingError(f"{path} was left by a training of another document; remove it or choose another output")
        for part, module in trainer.parts().items():
            module.load_state_dict({k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")})
        for i, optimizer in enumerate(trainer.optimizers):
            _restore(optimizer, f"optimizer.{i}.", tensors)
        trainer.generator.set_state(tensors["generator"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"the checkpoint {path} does not fit this training ({reason}); remove it to begin anew") from None
    for name in NUMBERS:
        setattr(trainer, name, notes[name])
    return True


def settings_of(path: Path) -> dict[str, Any] | None:
    """Read the settings that a checkpoint was written with; None where there is none, or it says none."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads((file.metadata() or {}).get("denseloc", "{}")).get("settings")
    except (SafetensorError, OSError, ValueError, AttributeError):
        return None
    return settings if isinstance(settings, dict) else None


def _notes(text: str) -> dict[str, Any]:
    """Read what stands beside the tensors.

    Raises:
        ValueError: it is not what `save_checkpoint` writes.
    """
    notes = json.loads(text)
    if not isinstance(notes, dict):
        raise ValueError(f"its metadata are a {type(notes).__name__}, expected an object with {', '.join(NUMBERS)}")
    if "settings" not in notes:
        return notes  # of something else, which is said as such
    for name in NUMBERS:
        wanted = {"step": int, "rollbacks": int, "history": list}.get(name, (int, float))
        if not isinstance(notes.get(name), wanted) or isinstance(notes[name], bool):
            raise ValueError(f"'{name}' of its metadata is {str(notes.get(name))[:40]}")
    if notes["step"] < 0 or not all(isinstance(entry, dict) for entry in notes["history"]):
        raise ValueError("'step' or 'history' of its metadata are impossible")
    return notes


def _restore(optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split(".", 1)
            if not 0 <= int(index) < len(weights) or (value.ndim and value.shape != weights[int(index)].shape):
                raise ValueError(f"'{name}' of shape {tuple(value.shape)} belongs to no weight of the optimizer")
            state.setdefault(int(index), {})[key] = value
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
