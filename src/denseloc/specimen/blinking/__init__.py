"""Blinking: when molecules are on; one file a kind."""

from typing import Any

from ...description import Shelf
from .base import Blinking, Traces
from .exponential import ExponentialSettings
from .four_state import FourStateSettings
from .mixed import MixedSettings
from .none import NoneSettings
from .survival import SurvivalSettings

BLINKING: Shelf[Any] = Shelf("blinking", NoneSettings, SurvivalSettings, ExponentialSettings, FourStateSettings, MixedSettings)

__all__ = [
    "BLINKING",
    "Blinking",
    "ExponentialSettings",
    "FourStateSettings",
    "MixedSettings",
    "NoneSettings",
    "SurvivalSettings",
    "Traces",
]
