"""Structures: where molecules sit; one file a kind."""

from typing import Any

from ...description import Shelf
from .base import Structure
from .filaments import FilamentsSettings
from .points import PointsSettings
from .rings import RingsSettings
from .uniform import UniformSettings

STRUCTURES: Shelf[Any] = Shelf("structure", UniformSettings, FilamentsSettings, RingsSettings, PointsSettings)

__all__ = ["STRUCTURES", "FilamentsSettings", "PointsSettings", "RingsSettings", "Structure", "UniformSettings"]
