"""Whether a model suits a movie: the movie beside scenes drawn from the model's own document, as dense, bright and lit as the movie."""

from .check import Checked, check
from .findings import Compared, Finding, Suitability, camera_first
from .judging import Evidence
from .ranges import judge_conditions, judge_density, outside_of_training, serves_many, trained
from .scenes import Setup

__all__ = [
    "Checked",
    "Compared",
    "Evidence",
    "Finding",
    "Setup",
    "Suitability",
    "camera_first",
    "check",
    "judge_conditions",
    "judge_density",
    "outside_of_training",
    "serves_many",
    "trained",
]
