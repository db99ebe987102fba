"""Point spread functions, one file a kind."""

from ..description import Shelf
from .astigmatic import AstigmaticPSF, AstigmaticSettings
from .base import PSF, PSFSettings, ResidualMaps
from .double_helix import DoubleHelixPSF, DoubleHelixSettings
from .gaussian import GaussianPSF, GaussianSettings, TwoGaussianPSF, TwoGaussianSettings
from .multiplane import MultiplanePSF, MultiplaneSettings

PSFS: Shelf[PSFSettings] = Shelf(
    "PSF", GaussianSettings, TwoGaussianSettings, AstigmaticSettings, DoubleHelixSettings, MultiplaneSettings
)

__all__ = [
    "PSF",
    "PSFS",
    "AstigmaticPSF",
    "AstigmaticSettings",
    "DoubleHelixPSF",
    "DoubleHelixSettings",
    "GaussianPSF",
    "GaussianSettings",
    "MultiplanePSF",
    "MultiplaneSettings",
    "PSFSettings",
    "ResidualMaps",
    "TwoGaussianPSF",
    "TwoGaussianSettings",
]
