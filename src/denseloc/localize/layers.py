"""Layers that several networks are built of, and how frames are made ready for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """``x + conv(relu(conv(relu(x))))``, the first convolution dilated if asked for; begins as the identity."""

    def __init__(self, features: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(bias_of(self.second))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, features, h, w)."""
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class Upsample(nn.Module):
    """Twice the size by the chosen way, from ``features`` to ``out`` channels.

    ICNR is a sub-pixel convolution that begins as nearest-neighbour enlargement. Source: Aitken et al., arXiv 1707.02937.
    """

    def __init__(self, features: int, out: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.mix = nn.Conv2d(features, 4 * out if how == "icnr" else out, 1)
        if how == "icnr":
            weight = torch.empty(out, features, 1, 1)
            nn.init.kaiming_normal_(weight)
            with torch.no_grad():
                self.mix.weight.copy_(weight.repeat_interleave(4, dim=0))
                bias_of(self.mix).zero_()

    def forward(self, x: Tensor) -> Tensor:
        """From (n, features, h, w) to (n, out, 2 h, 2 w)."""
        if self.how == "icnr":
            return functional.pixel_shuffle(self.mix(x), 2)
        if self.how == "nearest":
            return self.mix(functional.interpolate(x, scale_factor=2, mode="nearest"))
        return functional.interpolate(self.mix(x), scale_factor=2, mode="bilinear", align_corners=False)


class UNet(nn.Module):
    """Two levels down and up, two 3 x 3 convolutions a level, strided convolutions down, exponential linear units."""

    def __init__(self, channels: int, features: int, upsampling: str) -> None:
        super().__init__()
        f = features

        def pair(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1), nn.ELU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ELU()
            )

        self.level_0, self.level_1, self.bottom = pair(channels, f), pair(f, 2 * f), pair(2 * f, 4 * f)
        self.down_0, self.down_1 = nn.Conv2d(f, f, 2, stride=2), nn.Conv2d(2 * f, 2 * f, 2, stride=2)
        self.up_1, self.up_0 = Upsample(4 * f, 2 * f, upsampling), Upsample(2 * f, f, upsampling)
        self.back_1, self.back_0 = pair(4 * f, 2 * f), pair(2 * f, f)
        self.leave = nn.Conv2d(f, f, 1)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, channels, h, w) to (n, features, h, w)."""
        fine = self.level_0(x)
        middle = self.level_1(self.down_0(fine))
        coarse = self.bottom(self.down_1(middle))
        middle = self.back_1(torch.cat((self.up_1(coarse), middle), 1))
        return functional.elu(self.leave(self.back_0(torch.cat((self.up_0(middle), fine), 1))))


def make_film(conditions: int, features: int) -> nn.Linear | None:
    """Make the layer that turns conditions into a factor and a shift per feature; it begins without effect."""
    if not conditions:
        return None
    film = nn.Linear(conditions, 2 * features)
    nn.init.zeros_(film.weight)
    nn.init.zeros_(film.bias)
    return film


def modulate(x: Tensor, film: nn.Linear | None, conditions: Tensor | None) -> Tensor:
    """Apply a layer of `make_film` to features (n, features, h, w); conditions (n, conditions)."""
    if film is None or conditions is None:
        return x
    factor, shift = film(conditions)[:, :, None, None].to(x.dtype).chunk(2, 1)
    return x * (1 + factor) + shift


def bias_of(layer: nn.Conv2d) -> Tensor:
    """Give the bias of a convolution that has one."""
    assert layer.bias is not None
    return layer.bias


def noise_of(background: Tensor, excess: Tensor, variance: Tensor) -> Tensor:
    """Standard deviation of a pixel that holds background only, in photons."""
    return torch.sqrt(excess * background + variance + 0.1)


def standardised(photons: Tensor, conditions: Tensor) -> Tensor:
    """Give frames (n, planes, h, w) less their background, over its noise: ``(photons - b) / sqrt(excess b + v)``.

    Args:
        photons: (n, planes, h, w).
        conditions: (n, 4) background, excess, noise variance, PSF width in px.
    """
    background, excess, variance, _ = conditions[:, :, None, None, None].unbind(1)
    return (photons - background) / noise_of(background, excess, variance)


def compressed(u: Tensor) -> Tensor:
    """Give ``sign(u) log(1 + |u|)``, so that bright pixels do not outweigh the rest."""
    return torch.sign(u) * torch.log1p(u.abs())


def bfloat16_helps(device: torch.device) -> bool:
    """Whether 16-bit arithmetic is native on the device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
