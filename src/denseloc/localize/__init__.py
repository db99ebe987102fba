"""Localizers, one file a published method."""

from ..description import Shelf
from .base import Batch, InputConditions, Localizer, LocalizerSettings, Scales, TrainableLocalizer
from .cel0 import CEL0, CEL0Settings
from .correction import Correction
from .decode import Decode, DecodeSettings
from .luenn import Luenn, LuennSettings
from .multi import Multi, MultiSettings
from .single import Single, SingleSettings

LOCALIZERS: Shelf[LocalizerSettings] = Shelf(
    "localizer", DecodeSettings, LuennSettings, SingleSettings, MultiSettings, CEL0Settings
)

__all__ = [
    "CEL0",
    "LOCALIZERS",
    "Batch",
    "CEL0Settings",
    "Correction",
    "Decode",
    "DecodeSettings",
    "InputConditions",
    "Localizer",
    "LocalizerSettings",
    "Luenn",
    "LuennSettings",
    "Multi",
    "MultiSettings",
    "Scales",
    "Single",
    "SingleSettings",
    "TrainableLocalizer",
]
