"""Training: batches, the loop, checkpoints."""

from .loop import Progress, Trainer, TrainingSettings
from .simulate import Batch, Simulator
from .validate import Score, score

__all__ = ["Batch", "Progress", "Score", "Simulator", "Trainer", "TrainingSettings", "score"]
