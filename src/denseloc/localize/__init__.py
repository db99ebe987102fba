"""Localizers, one file a published method."""

from ..description import Shelf
from .base import InputConditions, Localizer, LocalizerSettings, Scales
from .decode import Decode, DecodeSettings

LOCALIZERS: Shelf[LocalizerSettings] = Shelf("localizer", DecodeSettings)

__all__ = ["LOCALIZERS", "Decode", "DecodeSettings", "InputConditions", "Localizer", "LocalizerSettings", "Scales"]
