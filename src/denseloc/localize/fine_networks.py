"""Networks from camera frames to grids that are finer: the quick one that Deep-STORM and DeepSTORM3D share, and the papers' own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import Residual, Upsample, bias_of


class QuickNet(nn.Module):
    """A trunk at half of the camera's resolution, which reaches far by dilation; the fine grid comes with the last layer alone.

    Each 2 x 2 pixels become one place with four times the channels. Most multiplications are done where there are fewest places.

    Args:
        planes: focal planes.
        features: of the trunk.
        late: features at camera resolution, behind the trunk.
        dilations: one block of two convolutions for each.
        finer: voxels per camera pixel and axis.
        depths: planes of the grid.
    """

    full = (
        20.0  # what the last layer says of an emitter that lies in one voxel; emitters are spread over tens of them while it learns
    )

    def __init__(self, planes: int, features: int, late: int, dilations: tuple[int, ...], finer: int, depths: int) -> None:
        super().__init__()
        self.finer, self.features = finer, features
        self.enter = nn.Conv2d(4 * planes, features, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(features, dilation) for dilation in dilations))
        self.up = Upsample(features, late, "icnr")
        self.block = Residual(late)
        self.leave = nn.Conv2d(late, finer**2 * depths, 1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(bias_of(self.leave))
        self.stride = 2
        self.halo = 2 * (1 + sum(dilation + 1 for dilation in dilations)) + 3

    def bytes_per_px(self, depths: int, training: bool) -> float:
        """Estimate the memory for a camera pixel with a grid of so many planes."""
        grid, trunk = (40, 24) if training else (22, 8)
        return float(grid * self.finer**2 * depths + trunk * self.features)

    def forward(self, image: Tensor) -> Tensor:
        """From (n, planes, h, w) to emitters per voxel (n, depths, h finer, w finer)."""
        x = self.blocks(self.enter(functional.pixel_unshuffle(image, 2)))
        x = functional.relu(self.block(self.up(functional.relu(x))))
        return _spread(functional.conv2d(x, self.leave.weight / self.full, bias_of(self.leave) / self.full), self.finer)


def _spread(x: Tensor, finer: int) -> Tensor:
    """Give each of ``finer^2`` groups of channels its place in the pixel: (n, finer^2 c, h, w) to (n, c, h finer, w finer), channels last."""
    parts = x.permute(0, 2, 3, 1).unflatten(-1, (finer, finer, -1)).permute(0, 1, 3, 2, 4, 5)
    return parts.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class EncoderDecoder(nn.Module):
    """Deep-STORM's network: the frame enlarged first, three levels down and up, convolutions without bias with batch norm and ReLU.

    Source: Nehme et al., Optica 5 (2018) 458; the numbers of features and the orthogonal first weights are those of the authors' code.
    """

    full = 100.0  # what the last layer says of an emitter that lies in one fine pixel
    features = (32, 64, 128, 512, 128, 64, 32)

    def __init__(self, planes: int, finer: int) -> None:
        super().__init__()
        self.finer = finer
        inputs = (planes, *self.features[:-1])
        self.layers = nn.ModuleList(_Normed(i, o) for i, o in zip(inputs, self.features, strict=True))
        self.leave = nn.Conv2d(self.features[-1], 1, 1, bias=False)
        nn.init.orthogonal_(self.leave.weight)
        self.stride = 8 // math.gcd(8, finer)  # the enlarged frame must be halved three times
        self.halo = math.ceil(32 / finer)

    def bytes_per_px(self, depths: int, training: bool) -> float:
        """Estimate the memory for a camera pixel; there is one plane."""
        return float((1250 if training else 420) * self.finer**2)

    def forward(self, image: Tensor) -> Tensor:
        """From (n, planes, h, w) to emitters per fine pixel (n, 1, h finer, w finer)."""
        x = functional.interpolate(image, scale_factor=self.finer, mode="nearest")
        for level, layer in enumerate(self.layers):
            x = layer(x)
            if level < 3:
                x = functional.max_pool2d(x, 2)
            elif level < 6:
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
        return self.leave(x) / self.full


class _Normed(nn.Module):
    """3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.orthogonal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class DilatedNet(nn.Module):
    """DeepSTORM3D's network: dilated convolutions that see the frame again at each layer, two enlargements, three layers on the voxels.

    Source: Nehme et al., Nature Methods 17 (2020) 734; the sums of layers are those of the authors' code (612 703 parameters with 121 planes).

    Args:
        planes: focal planes.
        features: at camera resolution and during the enlargement.
        depths: planes of the grid.
    """

    full = 800.0  # what the last layer says of an emitter that lies in one voxel; it is cut off there and at zero
    dilations = (1, 1, 2, 4, 8, 16)
    finer = 4

    def __init__(self, planes: int, features: int, depths: int) -> None:
        super().__init__()
        self.features = features
        self.norm = nn.BatchNorm2d(planes)
        inputs = (planes, *(features + planes for _ in self.dilations[1:]))
        self.trunk = nn.ModuleList(_Leaky(i, features, d) for i, d in zip(inputs, self.dilations, strict=True))
        self.up = nn.ModuleList((_Leaky(features + planes, features), _Leaky(features, features)))
        self.fine = nn.ModuleList((_Leaky(features, depths), _Leaky(depths, depths), _Leaky(depths, depths)))
        self.leave = nn.Conv2d(depths, depths, 1)
        self.stride, self.halo = 1, sum(self.dilations) + 3

    def bytes_per_px(self, depths: int, training: bool) -> float:
        """Estimate the memory for a camera pixel with a grid of so many planes."""
        grid, trunk = (70, 230) if training else (22, 200)
        return float(grid * self.finer**2 * depths + trunk * self.features)

    def forward(self, image: Tensor) -> Tensor:
        """From (n, planes, h, w) to emitters per voxel (n, depths, 4 h, 4 w), between 0 and 1."""
        image = self.norm(image)
        x = self.trunk[0](image)
        for layer in self.trunk[1:]:
            x = x + layer(torch.cat((x, image), 1))
        x = torch.cat((x, image), 1)
        for layer in self.up:
            x = layer(functional.interpolate(x, scale_factor=2, mode="nearest"))
        x = self.fine[0](x)
        for layer in self.fine[1:]:
            x = x + layer(x)
        return functional.hardtanh(self.leave(x), 0.0, self.full) / self.full


class _Leaky(nn.Module):
    """3 x 3 convolution, leaky ReLU of slope 0.2, batch norm."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(functional.leaky_relu(self.conv(x), 0.2))
