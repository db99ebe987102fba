"""Deep-STORM: a super-resolved image from each dense frame, by an encoder and a decoder.

The network gives an image that is 4 to 8 times finer than the frame, in emitters per fine pixel. It learns to make this image, smoothed by a
Gaussian of one fine pixel, equal to the true one, with the sum of its absolute values kept small. The images of all frames add up to the
picture; their local maxima are the table.

Source: Nehme, Weiss, Michaeli, Shechtman, "Deep-STORM: super-resolution single-molecule microscopy by deep learning", Optica 5 (2018) 458.

As in the paper: the image as output, the loss, and the preset ``paper`` (frame enlarged first, 1.4 million weights). Ours: a table beside the
image; truth that is shared between the fine pixels next to a molecule where the authors' code rounds to the nearest one; frames in units of
their noise where it takes the range 0 .. 1 of each frame, which depends on its brightest molecule; and the quick presets, which enlarge at
the end.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from ..data import Emitters
from .base import LocalizerSettings, Scales
from .fine_networks import EncoderDecoder, QuickNet
from .on_voxels import OnVoxels
from .peaks import VoxelGrid

SPARSITY = 0.02  # weight of the absolute values, where an emitter that is missed costs 1
SIZES = {"tiny": (32, 16, (1,)), "small": (64, 48, (1, 2, 1, 2))}


class DeepStormSettings(LocalizerSettings):
    """``[localizer] kind = "deep_storm"``."""

    kind: Literal["deep_storm"] = "deep_storm"
    preset: Literal["tiny", "small", "paper"] = Field(
        "small", description="size: seconds, minutes on two CPU cores, the paper's", examples=["tiny"]
    )
    enlarged: int = Field(8, ge=4, le=8, description="pixels of the image per camera pixel and axis")
    threshold: float | None = Field(None, gt=0, lt=1, description="least probability of a localization; absent: that of the method")

    def build(self, scales: Scales) -> DeepStorm:
        """Make the localizer, untrained."""
        return DeepStorm(self, scales)


class DeepStorm(OnVoxels):
    """Network, loss and decoding in one."""

    def __init__(self, settings: DeepStormSettings, scales: Scales) -> None:
        finer = settings.enlarged
        net = (
            EncoderDecoder(scales.planes, finer)
            if settings.preset == "paper"
            else QuickNet(scales.planes, *SIZES[settings.preset], finer, 1)
        )
        reach = max(2, round(0.5 * finer))
        super().__init__(net, VoxelGrid(finer), (0, reach, reach), scales, settings.threshold)

    def loss(self, found: Tensor, emitters: Emitters) -> Tensor:
        """Give the squared error of the smoothed images plus the absolute values, per emitter.

        Args:
            found: (n, 1, rows, columns) emitters per fine pixel.
            emitters: true ones.
        """
        error, _ = self.error_and_energy(found, emitters)
        return error + SPARSITY * found.abs().sum() / max(1, len(emitters))
