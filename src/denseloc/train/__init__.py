"""Training: batches, the loop, checkpoints, and what makes uncertainties true."""

from ..localize import Batch
from .late import learn_late
from .loop import Progress, Trainer, TrainingSettings
from .recalibrate import Recalibration, recalibrate
from .simulate import Simulator
from .validate import Score, score

__all__ = [
    "Batch",
    "Progress",
    "Recalibration",
    "Score",
    "Simulator",
    "Trainer",
    "TrainingSettings",
    "learn_late",
    "recalibrate",
    "score",
]
