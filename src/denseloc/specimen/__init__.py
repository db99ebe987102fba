"""Specimens: molecules, where they sit, when they are on, how bright they are, and the background."""

from .backgrounds import BACKGROUNDS
from .base import Specimen
from .blinking import BLINKING
from .photons import PHOTONS
from .settings import SpecimenSettings
from .structures import STRUCTURES
from .volume import Volume

__all__ = ["BACKGROUNDS", "BLINKING", "PHOTONS", "STRUCTURES", "Specimen", "SpecimenSettings", "Volume"]
