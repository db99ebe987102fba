"""Photon laws: how bright molecules are; one file a family."""

from typing import Any

from ...description import Shelf
from .base import Molecules, PhotonLaw
from .constant import ConstantSettings
from .flux import FluxSettings
from .gamma import GammaSettings
from .normal import NormalSettings
from .uniform import LogUniformSettings, UniformSettings

PHOTONS: Shelf[Any] = Shelf(
    "photon law", ConstantSettings, NormalSettings, GammaSettings, UniformSettings, LogUniformSettings, FluxSettings
)

__all__ = [
    "PHOTONS",
    "ConstantSettings",
    "FluxSettings",
    "GammaSettings",
    "LogUniformSettings",
    "Molecules",
    "NormalSettings",
    "PhotonLaw",
    "UniformSettings",
]
