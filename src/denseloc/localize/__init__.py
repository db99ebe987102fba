"""Localizers, one file a published method."""

from ..description import Shelf
from .base import Batch, InputConditions, Localizer, LocalizerSettings, Scales, TrainableLocalizer
from .cel0 import CEL0, CEL0Settings
from .decode import Decode, DecodeSettings
from .single import Single, SingleSettings

LOCALIZERS: Shelf[LocalizerSettings] = Shelf("localizer", DecodeSettings, SingleSettings, CEL0Settings)

__all__ = [
    "CEL0",
    "LOCALIZERS",
    "Batch",
    "CEL0Settings",
    "Decode",
    "DecodeSettings",
    "InputConditions",
    "Localizer",
    "LocalizerSettings",
    "Scales",
    "Single",
    "SingleSettings",
    "TrainableLocalizer",
]
