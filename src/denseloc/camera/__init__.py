"""Cameras: one file a kind."""

from ..description import Shelf
from .base import Camera, CameraSettings
from .emccd import EMCCD, EMCCDSettings
from .gamma import Gamma, GammaSettings
from .ideal import Ideal, IdealSettings
from .scmos import SCMOS, SCMOSSettings
from .various import CameraDraw, Various, VariousSettings

CAMERAS: Shelf[CameraSettings] = Shelf("camera", EMCCDSettings, SCMOSSettings, IdealSettings, GammaSettings, VariousSettings)

__all__ = [
    "CAMERAS",
    "EMCCD",
    "SCMOS",
    "Camera",
    "CameraDraw",
    "CameraSettings",
    "EMCCDSettings",
    "Gamma",
    "GammaSettings",
    "Ideal",
    "IdealSettings",
    "SCMOSSettings",
    "Various",
    "VariousSettings",
]
