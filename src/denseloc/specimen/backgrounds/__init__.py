"""Backgrounds: one file a kind."""

from typing import Any

from ...description import Shelf
from .base import Background
from .sloped import SlopedSettings
from .slowly_varying import SlowlyVaryingSettings
from .uniform import UniformSettings

BACKGROUNDS: Shelf[Any] = Shelf("background", UniformSettings, SlopedSettings, SlowlyVaryingSettings)

__all__ = ["BACKGROUNDS", "Background", "SlopedSettings", "SlowlyVaryingSettings", "UniformSettings"]
