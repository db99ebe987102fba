"""Training: batches, the loop, checkpoints, and what makes uncertainties true."""

from ..localize import Batch
from .course import complete, make_ready
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
    "complete",
    "learn_late",
    "make_ready",
    "recalibrate",
    "score",
]
