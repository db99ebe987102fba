"""The two networks of LUENN: the paper's (VGG19 down, bilinear up), and ours for two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError
from .layers import Residual, Upsample, bias_of

FINER = 4
"""Points of the grid to a camera pixel, along each axis."""
VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
DECODER = ((256, 256), (256, 256), (128, 128))
DENSE = ((64, 64), (32, 32, 32), (16, 16))
DROPOUT = 0.1  # the paper gives no rate
SIZES = {"tiny": (40, 64, 16, 8), "small": (64, 128, 32, 16)}


LAYERS = 1 << 8  # more than a network has


class Dropout(nn.Module):
    """Dropout whose draws follow from their number so far, which stands among the weights: to go on equals never having stopped.

    Args:
        rate: share of the values that are set to zero.
        salt: tells the layers of a network apart, so that each draws its own.
    """

    def __init__(self, rate: float, salt: int = 0) -> None:
        super().__init__()
        self.rate, self.salt = rate, salt
        self.drawn: Tensor
        self.register_buffer("drawn", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape; set a share of the values to zero while training."""
        if not self.training or not self.rate:
            return x
        self.drawn += 1
        generator = torch.Generator(x.device).manual_seed(int(self.drawn) * LAYERS + self.salt)
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Make a layer of the decoder: convolution, GELU, batch normalisation, dropout."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(bias_of(layer))
    return nn.Sequential(layer, nn.GELU(), nn.BatchNorm2d(outputs), Dropout(DROPOUT))


class Dense(nn.Module):
    """Layers that each see the input and all layers before; gives what the layers have made."""

    def __init__(self, inputs: int, outputs: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(convolution(inputs + sum(outputs[:i]), n) for i, n in enumerate(outputs))
        self.outputs = sum(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, h, w) to (n, outputs, h, w)."""
        made = [x]
        for layer in self.layers:
            made.append(layer(torch.cat(made, 1)))
        return torch.cat(made[1:], 1)


class Vgg19Net(nn.Module):
    """The paper's: the sixteen convolutions of VGG19 down to 1/16, six blocks of fourteen convolutions up to four times the camera's resolution.

    Each of the six begins with bilinear enlargement by two; the first four take the activations of the mirrored block of the encoder beside it,
    the last three are densely connected. The paper gives totals (20 and 5.7 million parameters), not channels; these are ours. VGG19's fifth
    pooling is left out: six doublings lead to four times the resolution from 1/16, not from 1/32.

    Args:
        planes: focal planes; the first convolution has so many inputs in place of three colours.
        outputs: 2, or 1 without depth.
    """

    stride, halo = 16, 208  # reach of the encoder 133, of the decoder 64, of what reads the grids 2 camera pixels

    def __init__(self, planes: int, outputs: int) -> None:
        super().__init__()
        self.encoder, width = nn.ModuleList(), planes
        for widths in VGG19:
            layers: list[nn.Module] = []
            for n in widths:
                layers += [nn.Conv2d(width, n, 3, padding=1), nn.ReLU()]
                width = n
            self.encoder.append(nn.Sequential(*layers))
        for layer in self.convolutions():
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # torch's own would let the signal fade over sixteen layers
            nn.init.zeros_(bias_of(layer))
        self.up = nn.ModuleList()
        for (first, second), mirrored in zip(DECODER, VGG19[-2:0:-1], strict=True):
            self.up.append(nn.Sequential(convolution(width + mirrored[-1], first), convolution(first, second)))
            width = second
        one, two, four = DENSE
        self.at_one, self.at_two = Dense(width + VGG19[0][-1], one), Dense(sum(one), two)
        self.at_four = Dense(sum(two), four)
        self.leave = nn.Conv2d(sum(two) + sum(four), outputs, 3, padding=1)
        begin(self.leave)
        for salt, dropout in enumerate(layer for layer in self.modules() if isinstance(layer, Dropout)):
            dropout.salt = salt

    def convolutions(self) -> list[nn.Conv2d]:
        """List the sixteen of the encoder."""
        return [layer for layer in self.encoder.modules() if isinstance(layer, nn.Conv2d)]

    def forward(self, x: Tensor) -> Tensor:
        """From (n, planes, h, w) to (n, outputs, 4 h, 4 w)."""
        kept: list[Tensor] = []
        for block in self.encoder:
            x = block(functional.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for block, beside in zip(self.up, kept[-2:0:-1], strict=True):
            x = block(torch.cat((doubled(x), beside), 1))
        x = self.at_one(torch.cat((doubled(x), kept[0]), 1))
        x = doubled(self.at_two(doubled(x)))
        x = torch.cat((x, self.at_four(x)), 1)
        with torch.autocast(x.device.type, enabled=False):
            grids: Tensor = self.leave(x.float())
        return grids


class SmallNet(nn.Module):
    """Ours, of the same idea: down and up again, with bilinear enlargement to twice the camera's resolution, and to four times by sub-pixels.

    What the paper's network does at the camera's resolution, this one does at half of it, where 2 x 2 pixels are one place with four times the
    channels: most of the cost lies in the fine layers. The last doubling is a sub-pixel convolution, which the paper names as sound too (its
    reference 18). Residual blocks that begin as the identity take the place of batch normalisation, which is noisy in small batches.

    Args:
        planes: focal planes.
        sizes: features at 1/2, 1/4, 1 and 2 times the camera's resolution.
        outputs: 2, or 1 without depth.
    """

    stride, halo = 4, 40

    def __init__(self, planes: int, sizes: tuple[int, int, int, int], outputs: int) -> None:
        super().__init__()
        half, quarter, once, twice = sizes
        self.enter = nn.Conv2d(4 * planes, half, 3, padding=1)
        self.before = Residual(half)
        self.down = nn.Conv2d(half, quarter, 2, stride=2)
        self.deep = nn.Sequential(Residual(quarter), Residual(quarter))
        self.up = Upsample(quarter, half, "bilinear")
        self.after = Residual(half)
        self.up_once, self.once = Upsample(half, once, "bilinear"), Residual(once)
        self.up_twice, self.twice = Upsample(once, twice, "bilinear"), nn.Conv2d(twice, twice, 3, padding=1)
        self.leave = nn.Conv2d(2 * twice, 4 * outputs, 3, padding=1)
        begin(self.leave)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, planes, h, w) to (n, outputs, 4 h, 4 w)."""
        x = self.before(self.enter(functional.pixel_unshuffle(x, 2)))
        x = self.after(x + self.up(functional.relu(self.deep(self.down(functional.relu(x))))))
        x = self.once(self.up_once(functional.relu(x)))
        x = functional.relu(self.up_twice(functional.relu(x)))
        x = torch.cat((x, functional.relu(self.twice(x))), 1)
        with torch.autocast(x.device.type, enabled=False):
            return functional.pixel_shuffle(self.leave(x.float()), 2)


def doubled(x: Tensor) -> Tensor:
    """Enlarge twice, bilinearly: nearest neighbours would draw positions to the centres of pixels."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def begin(layer: nn.Conv2d) -> None:
    """Begin with grids near zero: emitters are rare."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(bias_of(layer))


def take_vgg19(net: Vgg19Net, path: Path | str) -> None:
    """Begin the encoder with weights of VGG19, as torchvision names them: ``features.0.weight`` ... ``features.34.bias``.

    The first layer's three colours are added up and shared by the planes: a grey image has the same light in each colour.

    Raises:
        ModelError: not there, no safetensors file, or other layers.
    """
    layers, place = net.convolutions(), 0
    wanted: dict[str, nn.Conv2d] = {}
    for block in VGG19:
        for _ in block:
            wanted[f"features.{place}"] = layers[len(wanted)]
            place += 2
        place += 1  # the pooling
    if not Path(path).is_file():
        raise ModelError(f"localizer.encoder_weights: no file {path}; give VGG19's weights as .safetensors, or leave the key out")
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            given = {name: file.get_tensor(name).float() for name in _names(wanted) if name in names}
    except (SafetensorError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"localizer.encoder_weights: {path} is no safetensors file ({reason}); convert the weights to it"
        ) from None
    for i, (name, layer) in enumerate(wanted.items()):
        shape = (layer.out_channels, 3 if i == 0 else layer.in_channels, 3, 3)
        for part, expected in ((f"{name}.weight", shape), (f"{name}.bias", shape[:1])):
            found = tuple(given[part].shape) if part in given else "missing"
            if found != expected or not given[part].isfinite().all():
                what = found if found != expected else "not finite"
                raise ModelError(
                    f"localizer.encoder_weights: {path}: {part} is {what}, expected {expected}; give VGG19 without batch "
                    "normalisation, named as by torchvision"
                )
    with torch.no_grad():
        for i, (name, layer) in enumerate(wanted.items()):
            weight = given[f"{name}.weight"]
            layer.weight.copy_(weight if i else weight.sum(1, keepdim=True) / layer.in_channels)
            bias_of(layer).copy_(given[f"{name}.bias"])


def _names(layers: dict[str, nn.Conv2d]) -> list[str]:
    return [f"{name}.{part}" for name in layers for part in ("weight", "bias")]
