"""The two networks of DECODE: ours at half resolution, and the paper's at full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import Residual, UNet, Upsample, bias_of, make_film, modulate

CHANNELS = (
    10  # logit; x, y, z, log photons; their four standard deviations; background; behind these a logit for each colour, if several
)
DETECTION_BIAS = -6.0  # emitters are rare: start from few detections
SIZES = {"tiny": (24, 40, 64), "small": (48, 64, 128), "medium": (64, 128, 192)}


class HalfResolutionNet(nn.Module):
    """A trunk at half resolution: each 2 x 2 pixels become one place with four times the channels, and are parted again at the end.

    Args:
        planes: focal planes.
        sizes: features of one frame, of the joined frames, and one level down.
        upsampling: how the lower level comes back.
        conditions: number of condition values, 0 for none.
        joins: number of feature maps that are joined: those of the frame, of its neighbours, and the mean of all frames.
        colours: number of colour channels to be told apart, 0 for none.
    """

    stride, halo = 4, 40
    place_px = 2  # pixels of a side of a place of the features

    def __init__(
        self, planes: int, sizes: tuple[int, int, int], upsampling: str, conditions: int, joins: int = 3, colours: int = 0
    ) -> None:
        super().__init__()
        frame, joined, deep = sizes
        self.enter = nn.Conv2d(4 * planes, frame, 3, padding=1)
        self.frame_block = Residual(frame)
        self.join = nn.Conv2d(joins * frame, joined, 1)
        self.before = Residual(joined)
        self.down = nn.Conv2d(joined, deep, 3, stride=2, padding=1)
        self.deep_blocks = nn.Sequential(Residual(deep), Residual(deep))
        self.up = Upsample(deep, joined, upsampling)
        self.after = Residual(joined)
        self.leave = nn.Conv2d(joined, 4 * (CHANNELS + colours), 1)
        self.frame_film = make_film(conditions, frame)
        self.join_film = make_film(conditions, joined)
        begin_heads(self.leave, 4)

    def frame_features(self, image: Tensor, conditions: Tensor | None) -> Tensor:
        """Look at each frame alone: (n, planes, h, w) to (n, frame, h / 2, w / 2)."""
        x = modulate(self.enter(functional.pixel_unshuffle(image, 2)), self.frame_film, conditions)
        return functional.relu(self.frame_block(x))

    def fuse(self, parts: Sequence[Tensor], conditions: Tensor | None) -> Tensor:
        """Join the features of each frame with those of its context and give the maps (n, 10 + colours, h, w)."""
        x = self.before(modulate(self.join(torch.cat(tuple(parts), 1)), self.join_film, conditions))
        x = self.after(x + self.up(self.deep_blocks(self.down(functional.relu(x)))))
        with torch.autocast(x.device.type, enabled=False):
            return functional.pixel_shuffle(self.leave(functional.relu(x).float()), 2)


class StackedUNets(nn.Module):
    """The paper's network at full resolution: a U-net for each frame, a second one for the joined frames, a small head per kind of map.

    The second U-net has two levels as the first one, as in the later publication; one in 2019. 48 features, three frames and up-sampling without
    weights of its own ("nearest" or "bilinear") are the later publication's reference settings: 2 199 418 weights, and 2 199 419 as its authors'
    program counts, which keeps the floor of the standard deviations, a constant, among them. ICNR has 139 104 more.

    Args:
        planes, upsampling, conditions, joins, colours: as for `HalfResolutionNet`.
        features: of one frame, and of the finest level.
    """

    stride, halo = 4, 80
    place_px = 1

    def __init__(self, planes: int, features: int, upsampling: str, conditions: int, joins: int = 3, colours: int = 0) -> None:
        super().__init__()
        self.frame_net = UNet(planes, features, upsampling)
        self.joint_net = UNet(joins * features, features, upsampling)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(features, features, 3, padding=1), nn.ELU(), nn.Conv2d(features, outputs, 1))
            for outputs in (1, 4, 4, 1, *((colours,) if colours else ()))
        )
        self.frame_film = make_film(conditions, features)
        self.join_film = make_film(conditions, features)
        for head, start in zip(self.heads, (DETECTION_BIAS, *(0.0,) * (len(self.heads) - 1)), strict=True):
            nn.init.constant_(head.get_parameter("2.bias"), start)

    def frame_features(self, image: Tensor, conditions: Tensor | None) -> Tensor:
        """Look at each frame alone: (n, planes, h, w) to (n, features, h, w)."""
        return modulate(self.frame_net(image), self.frame_film, conditions)

    def fuse(self, parts: Sequence[Tensor], conditions: Tensor | None) -> Tensor:
        """Join the features of each frame with those of its context and give the maps (n, 10 + colours, h, w)."""
        x = modulate(self.joint_net(torch.cat(tuple(parts), 1)), self.join_film, conditions)
        return torch.cat([head(x) for head in self.heads], 1).float()


def begin_heads(head: nn.Conv2d, copies: int) -> None:
    """Begin with rare detections and predictions near zero; ``copies`` channels belong to each map (pixel shuffle)."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(bias_of(head))
    with torch.no_grad():
        bias_of(head)[:copies] = DETECTION_BIAS
