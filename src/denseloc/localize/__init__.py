"""Localizers, one file a published method."""

from ..description import Shelf
from .base import Batch, InputConditions, Localizer, LocalizerSettings, Scales, TrainableLocalizer
from .correction import Correction
from .decode import Decode, DecodeSettings
from .single import Single, SingleSettings

LOCALIZERS: Shelf[LocalizerSettings] = Shelf("localizer", DecodeSettings, SingleSettings)

__all__ = [
    "LOCALIZERS",
    "Batch",
    "Correction",
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
