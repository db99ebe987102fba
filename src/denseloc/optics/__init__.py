"""Point spread functions, one file a kind."""

from ..description import Shelf
from .astigmatic import AstigmaticPSF, AstigmaticSettings
from .base import PSF, PSFSettings, ResidualMaps
from .colours import ColoursPSF, ColoursSettings
from .double_helix import DoubleHelixPSF, DoubleHelixSettings
from .field import FieldPSF, FieldSettings
from .gaussian import GaussianPSF, GaussianSettings, TwoGaussianPSF, TwoGaussianSettings
from .multiplane import MultiplanePSF, MultiplaneSettings
from .planes import Plane, PlanesPSF, PlanesSettings
from .pupil import PupilPSF, PupilSettings
from .spline import SplinePSF, SplineSettings

PSFS: Shelf[PSFSettings] = Shelf(
    "PSF",
    GaussianSettings,
    TwoGaussianSettings,
    AstigmaticSettings,
    DoubleHelixSettings,
    MultiplaneSettings,
    PupilSettings,
    FieldSettings,
    SplineSettings,
    PlanesSettings,
    ColoursSettings,
)

__all__ = [
    "PSF",
    "PSFS",
    "AstigmaticPSF",
    "AstigmaticSettings",
    "ColoursPSF",
    "ColoursSettings",
    "DoubleHelixPSF",
    "DoubleHelixSettings",
    "FieldPSF",
    "FieldSettings",
    "GaussianPSF",
    "GaussianSettings",
    "MultiplanePSF",
    "MultiplaneSettings",
    "PSFSettings",
    "Plane",
    "PlanesPSF",
    "PlanesSettings",
    "PupilPSF",
    "PupilSettings",
    "ResidualMaps",
    "SplinePSF",
    "SplineSettings",
    "TwoGaussianPSF",
    "TwoGaussianSettings",
]
