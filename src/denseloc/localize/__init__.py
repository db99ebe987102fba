"""Localizers, one file a published method."""

from ..description import Shelf
from .base import Batch, InputConditions, Localizer, LocalizerSettings, Scales, TrainableLocalizer
from .correction import Correction
from .decode import Decode, DecodeSettings
from .multi import Multi, MultiSettings
from .single import Single, SingleSettings

LOCALIZERS: Shelf[LocalizerSettings] = Shelf("localizer", DecodeSettings, MultiSettings, SingleSettings)

__all__ = [
    "LOCALIZERS",
    "Batch",
    "Correction",
    "Decode",
    "DecodeSettings",
    "InputConditions",
    "Localizer",
    "LocalizerSettings",
    "Multi",
    "MultiSettings",
    "Scales",
    "Single",
    "SingleSettings",
    "TrainableLocalizer",
]
