"""Checkpoints: tensors as safetensors, the rest as JSON inside; nothing that could run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import TrainingError
from ..files import replacing

if TYPE_CHECKING:
    from .loop import Trainer

NUMBERS = ("step", "rate", "seconds", "simulating", "loss", "norm", "rollbacks", "history")


def save_checkpoint(path: Path, trainer: Trainer) -> None:
    """Write everything that the next step depends on."""
    tensors = {f"localizer.{k}": v for k, v in trainer.localizer.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in trainer.averaged.state_dict().items()}
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


def load_checkpoint(path: Path, trainer: Trainer) -> bool:
    """Take up a checkpoint; gives False if there is none.

    Raises:
        TrainingError: the file is damaged, or belongs to another document.
    """
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {}).get("denseloc", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if notes.get("settings") != trainer.settings.model_dump(mode="json") or notes.get("mark") != trainer.mark:
            raise TrainingError(f"{path} was left by a training of another document; remove it or choose another output")
        for part, module in (("localizer", trainer.localizer), ("averaged", trainer.averaged)):
            module.load_state_dict({k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")})
        for i, optimizer in enumerate(trainer.optimizers):
            _restore(optimizer, f"optimizer.{i}.", tensors)
        trainer.generator.set_state(tensors["generator"])
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"the checkpoint {path} does not fit this training ({str(error).splitlines()[0]}); remove it to begin anew"
        ) from None
    for name in NUMBERS:
        setattr(trainer, name, notes[name])
    return True


def _restore(optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split(".", 1)
            state.setdefault(int(index), {})[key] = value
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
