"""Phase masks for the pupil, one file a kind."""

from ...description import Shelf
from .array import ArrayMaskSettings
from .astigmatism import AstigmatismSettings
from .base import MaskSettings
from .double_helix import DoubleHelixMaskSettings
from .saddle_point import SaddlePointSettings
from .tetrapod import TetrapodSettings
from .zernike import ZernikeMaskSettings

MASKS: Shelf[MaskSettings] = Shelf(
    "mask",
    TetrapodSettings,
    SaddlePointSettings,
    DoubleHelixMaskSettings,
    AstigmatismSettings,
    ZernikeMaskSettings,
    ArrayMaskSettings,
)

__all__ = [
    "MASKS",
    "ArrayMaskSettings",
    "AstigmatismSettings",
    "DoubleHelixMaskSettings",
    "MaskSettings",
    "SaddlePointSettings",
    "TetrapodSettings",
    "ZernikeMaskSettings",
]
