"""Localizers, one file a published method."""

from ..description import Shelf
from .base import Batch, InputConditions, Localizer, LocalizerSettings, Scales, TrainableLocalizer
from .cel0 import CEL0, CEL0Settings
from .correction import Correction
from .decode import Decode, DecodeSettings
from .deep_loco import DeepLoco, DeepLocoSettings
from .deep_storm import DeepStorm, DeepStormSettings
from .deep_storm_3d import DeepStorm3D, DeepStorm3DSettings
from .inferring import InferringLocalizer
from .luenn import Luenn, LuennSettings
from .multi import Multi, MultiSettings
from .single import Single, SingleSettings
from .voxel_wise import VoxelWise, VoxelWiseSettings

LOCALIZERS: Shelf[LocalizerSettings] = Shelf(
    "localizer",
    DecodeSettings,
    LuennSettings,
    SingleSettings,
    MultiSettings,
    CEL0Settings,
    DeepStormSettings,
    DeepStorm3DSettings,
    DeepLocoSettings,
    VoxelWiseSettings,
)

__all__ = [
    "CEL0",
    "LOCALIZERS",
    "Batch",
    "CEL0Settings",
    "Correction",
    "Decode",
    "DecodeSettings",
    "DeepLoco",
    "DeepLocoSettings",
    "DeepStorm",
    "DeepStorm3D",
    "DeepStorm3DSettings",
    "DeepStormSettings",
    "InferringLocalizer",
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
    "VoxelWise",
    "VoxelWiseSettings",
]
