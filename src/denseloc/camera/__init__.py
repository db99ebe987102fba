"""Cameras: one file a kind."""

from typing import Any

from ..description import Shelf
from .base import Camera
from .emccd import EMCCD, EMCCDSettings
from .gamma import Gamma, GammaSettings
from .ideal import Ideal, IdealSettings
from .scmos import SCMOS, SCMOSSettings
from .various import CameraDraw, Various, VariousSettings

CAMERAS: Shelf[Any] = Shelf("camera", EMCCDSettings, SCMOSSettings, IdealSettings, GammaSettings, VariousSettings)

__all__ = [
    "CAMERAS",
    "EMCCD",
    "SCMOS",
    "Camera",
    "CameraDraw",
    "EMCCDSettings",
    "Gamma",
    "GammaSettings",
    "Ideal",
    "IdealSettings",
    "SCMOSSettings",
    "Various",
    "VariousSettings",
]
