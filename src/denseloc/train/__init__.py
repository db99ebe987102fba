"""Training: batches, the loop, checkpoints."""

from ..localize import Batch
from .loop import Progress, Trainer, TrainingSettings
from .simulate import Simulator
from .validate import Score, score

__all__ = ["Batch", "Progress", "Score", "Simulator", "Trainer", "TrainingSettings", "score"]
