"""LUENN: two grids four times finer than the camera, whose norm draws the emitters and whose phase tells their depth.

A network draws each frame anew on two grids, the real and the imaginary part of one complex image: around each emitter its norm is a Gaussian
and its phase the depth. Emitters that come close or coincide add up, so that nothing supposes them apart. Peaks of the norm are emitters;
three points along each axis give the place between the points of the grid, the grids around the peak the phase. A second network looks at the
same grids around each peak and gives the error to be expected along each axis; it is trained after the first.

Source: Abdehkahka and Snoeyink, "Localization of ultra-dense emitters with neural networks" (LUENN), method and supporting information;
three-point Gaussian: Li et al., Nucl. Instrum. Methods A 422 (1999) 438.

Where the paper is silent or its code differs, this is done:

- The norm is the *sum* of the Gaussians and the phase the *mean* of the depths' phases, weighted by the Gaussians. A sum of complex Gaussians
  would let emitters at opposite depths erase each other, against the paper's words.
- The depth range takes three quarters of the circle (-135 to 135 degrees) and is read from both grids (atan2); the public code takes a half and
  reads depth from the real part alone, which is blind at both ends of the range.
- The network is trained on the mean squared error, divided by the energy of one emitter.
- Localizations state the second network's expectation as sigma: mean ``|d|`` times ``sqrt(pi / 2)``, as for a Gaussian error.
- Photons and background, which the grids do not hold, are left out of the table. Without depth there is one grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ..data import Emitters, Localizations
from ..evaluate import match
from ..units import PixelSize
from .base import Batch, LocalizerSettings, Scales
from .frame_by_frame import Found, FrameByFrame, frames_of
from .layers import bfloat16_helps, compressed, standardised
from .luenn_errors import SIGMA_PER_MEAN, ErrorNet, error_loss, windows
from .luenn_networks import FINER, SIZES, SmallNet, Vgg19Net, take_vgg19

WIDTH = 1.0  # of the Gaussians, in points of the grid
STAMP = 3  # points that a Gaussian reaches to each side
TURN = (
    0.75 * math.pi
)  # phase of the ends of the depth range: a margin of an eighth of the circle beyond each, so that noise wraps nothing
EVEN = 0.1  # height of a peak, with one for a sure emitter, at which about half are real: probability 1/2
APART = (
    2  # points on each side of a peak that are lower: nearer ones are no two peaks, as Gaussians less than 3 widths apart make one
)


class LuennSettings(LocalizerSettings):
    """``[localizer] kind = "luenn"``.

    The paper trains by Adam with steps of the learning rate: ``[training] optimizer = "adamw"``, ``schedule = "steps"``.
    """

    kind: Literal["luenn"] = "luenn"
    preset: Literal["tiny", "small", "paper"] = Field(
        "small",
        description="size: two CPU cores in minutes, in under an hour, the paper's (25.8 million weights)",
        examples=["tiny"],
    )
    encoder_weights: str | None = Field(
        None, description=".safetensors file of VGG19 to begin the encoder of the paper's size with; absent: random weights"
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="least probability of a localization; absent: one half by the peak's height"
    )

    @model_validator(mode="after")
    def _only_vgg19_takes_weights(self) -> LuennSettings:
        if self.encoder_weights is not None and self.preset != "paper":
            raise ValueError(f"encoder_weights are those of VGG19, which preset '{self.preset}' does not hold; take preset 'paper'")
        return self

    def build(self, scales: Scales) -> Luenn:
        """Make the localizer, untrained."""
        return Luenn(self, scales)


@dataclass(frozen=True)
class Peaks:
    """Peaks of the norm.

    Args:
        frame, row, column: (m,) place on the grid.
        x, y: (m,) place in camera pixels from the corner of the first one.
        depth: (m,) in halves of the depth range.
        height: (m,) of the norm, one for a sure emitter.
    """

    frame: Tensor
    row: Tensor
    column: Tensor
    x: Tensor
    y: Tensor
    depth: Tensor
    height: Tensor


class Luenn(FrameByFrame):
    """Two networks, target, losses and decoding in one."""

    def __init__(self, settings: LuennSettings, scales: Scales) -> None:
        super().__init__(scales)
        self.settings = settings
        grids = 2 if scales.z_unit_nm else 1
        self.net: Vgg19Net | SmallNet
        self.net = (
            Vgg19Net(scales.planes, grids) if settings.preset == "paper" else SmallNet(scales.planes, SIZES[settings.preset], grids)
        )
        self.errors = ErrorNet(grids, grids + 1)
        self.halo_px, self.align_px = self.net.halo, self.net.stride
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def take_first_weights(self) -> None:
        """Begin the encoder with the weights that the section names.

        Raises:
            ModelError: they do not fit.
        """
        if self.settings.encoder_weights is not None and isinstance(self.net, Vgg19Net):
            take_vgg19(self.net, self.settings.encoder_weights)

    def output(self, photons: Tensor, conditions: Tensor) -> Tensor:
        """Draw the grids (n, 2, 4 h, 4 w), or (n, 1, ...) without depth; the network knows its own microscope's conditions only."""
        own = self.scales.reference.tensor(len(photons), photons.device)
        image = compressed(standardised(photons, own)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(photons.device.type, dtype=torch.bfloat16, enabled=bfloat16_helps(photons.device)):
            grids: Tensor = self.net(image)
        return grids

    # ------------------------------------------------------------------------------------------------------------------ learning

    def target(self, emitters: Emitters, n: int, shape: tuple[int, int]) -> Tensor:
        """Draw true emitters on the grids: ``N cos(f), N sin(f)`` with ``N = sum g`` and ``f = sum(g f_i) / sum g``.

        Args:
            emitters: those inside of the frames.
            n: number of frames.
            shape: (4 h, 4 w) of the grids.

        Returns:
            (n, 2, 4 h, 4 w), or (n, 1, ...), which is N, without depth.
        """
        rows, columns = shape
        y_nm, x_nm = self.scales.pixel_size_nm
        x, y = (FINER * v - 0.5 for v in (emitters.x_nm / x_nm, emitters.y_nm / y_nm))
        steps = torch.arange(-STAMP, STAMP + 1, device=x.device)
        across, down = x.round().long()[:, None] + steps, y.round().long()[:, None] + steps
        g = _gauss((down - y[:, None]).float())[:, :, None] * _gauss((across - x[:, None]).float())[:, None, :]
        inside = ((down >= 0) & (down < rows))[:, :, None] & ((across >= 0) & (across < columns))[:, None, :]
        place = (emitters.frame[:, None, None] * rows + down[:, :, None]) * columns + across[:, None, :]
        norm = g.new_zeros(n * rows * columns).index_add(0, place[inside], g[inside]).view(n, 1, rows, columns)
        if not self.scales.z_unit_nm:
            return norm
        phase = (TURN / self.scales.z_unit_nm * emitters.z_nm.float())[:, None, None] * g
        phase = g.new_zeros(n * rows * columns).index_add(0, place[inside], phase[inside]).view_as(norm) / norm.clamp(min=1e-9)
        return torch.cat((norm * torch.cos(phase), norm * torch.sin(phase)), 1)

    def batch_loss(self, batch: Batch) -> Tensor:
        """Give the squared error of the grids over the energy of the true emitters: one for a network that draws nothing."""
        photons, conditions = frames_of(batch)
        grids = self.output(photons, conditions)
        truth = self.target(batch.emitters, len(grids), (grids.shape[-2], grids.shape[-1]))
        return (grids - truth).square().sum() / (math.pi * WIDTH**2 * max(1, len(batch.emitters)))

    def hidden_weights(self) -> list[nn.Parameter]:
        """List the first network's convolutions except those that the frames enter by and that draws the grids."""
        ends = ("enter", "encoder.0.0", "leave")
        return [weight for name, weight in self.net.named_parameters() if weight.ndim == 4 and not name.startswith(ends)]

    def late_weights(self) -> list[nn.Parameter]:
        """List the weights of the second network."""
        return list(self.errors.parameters())

    def late_loss(self, batch: Batch) -> Tensor:
        """Give the loss of the second network on what the first one finds; only localizations of real emitters have an error."""
        photons, conditions = frames_of(batch)
        with torch.no_grad():
            grids = self.output(photons, conditions)
            peaks = self.peaks(grids)
        found = self.table(peaks, self.scales.pixel_size_nm)
        e = batch.emitters.to("cpu")
        truth = Localizations({"frame": e.frame.numpy(), "x_nm": e.x_nm.numpy(), "y_nm": e.y_nm.numpy(), "z_nm": e.z_nm.numpy()})
        pairs = match(found, truth, dimensions=3 if self.scales.z_unit_nm else 2)
        y_nm, x_nm = self.scales.pixel_size_nm
        units = {"x_nm": x_nm, "y_nm": y_nm} | ({"z_nm": self.scales.z_unit_nm} if self.scales.z_unit_nm else {})
        if not len(pairs):
            return 0 * torch.stack([weight.sum() for weight in self.late_weights()]).sum()
        which = torch.as_tensor(pairs.table, device=grids.device)
        error = [torch.as_tensor(pairs.difference(name, found, truth) / unit) for name, unit in units.items()]
        around = windows(grids, peaks.frame[which], peaks.row[which], peaks.column[which])
        return error_loss(self.errors(around), torch.stack(error, 1).to(around))

    # ------------------------------------------------------------------------------------------------------------------- reading

    @property
    def least_probability(self) -> float:
        """The own probability from which on a localization is kept; what a person asks for is meant as it is reported."""
        asked = self.threshold or self.settings.threshold
        return 0.5 if asked is None else self.own_probability(asked)

    def peaks(self, grids: Tensor) -> Peaks:
        """Find the peaks of the norm that are at least as probable as asked for."""
        norm = grids[:, 0] if grids.shape[1] == 1 else torch.linalg.vector_norm(grids, dim=1)
        p = self.least_probability
        least = EVEN * math.sqrt(p / (1 - p))
        is_peak = (norm >= least) & (norm == functional.max_pool2d(norm, 2 * APART + 1, 1, APART))
        frame, row, column = torch.nonzero(is_peak, as_tuple=True)
        edge = functional.pad(norm[:, None], (1, 1, 1, 1), mode="replicate")[:, 0].clamp(min=1e-6).log()
        i, j = row + 1, column + 1
        x = column + between(edge[frame, i, j - 1], edge[frame, i, j], edge[frame, i, j + 1])
        y = row + between(edge[frame, i - 1, j], edge[frame, i, j], edge[frame, i + 1, j])
        depth = torch.zeros_like(x)
        if grids.shape[1] == 2:
            light = functional.avg_pool2d(grids, 3, 1, 1)[frame, :, row, column]  # the norm weighs the phases by itself
            depth = torch.atan2(light[:, 1], light[:, 0]) / TURN
        return Peaks(frame, row, column, (x + 0.5) / FINER, (y + 0.5) / FINER, depth, norm[frame, row, column])

    def table(self, peaks: Peaks, pixel_size_nm: PixelSize, mean: Tensor | None = None) -> Localizations:
        """Make rows of peaks, with sigmas where the mean absolute errors (m, axes) are known."""
        y_nm, x_nm = pixel_size_nm
        odds = (peaks.height / EVEN).square()
        columns = {
            "frame": peaks.frame,
            "x_nm": x_nm * peaks.x.double(),
            "y_nm": y_nm * peaks.y.double(),
            "probability": odds / (1 + odds),
        }
        if self.scales.z_unit_nm:
            columns["z_nm"] = self.scales.z_unit_nm * peaks.depth
        if mean is not None:
            units = {"sigma_x_nm": x_nm, "sigma_y_nm": y_nm, "sigma_z_nm": self.scales.z_unit_nm}
            columns |= {name: SIGMA_PER_MEAN * unit * one for (name, unit), one in zip(units.items(), mean.unbind(1), strict=False)}
        return Localizations({name: values.cpu().numpy() for name, values in columns.items()})

    def read(self, output: Tensor, photons: Tensor, conditions: Tensor, pixel_size_nm: PixelSize) -> Found:
        """Turn grids into rows; see `FrameByFrame.read`."""
        peaks = self.peaks(output)
        with torch.no_grad():
            mean = self.errors.expected(output, peaks.frame, peaks.row, peaks.column)
        row, column = ((place // FINER).cpu().numpy() for place in (peaks.row, peaks.column))
        return Found(self.table(peaks, pixel_size_nm, mean), row, column)


def _gauss(distance: Tensor) -> Tensor:
    return torch.exp(-0.5 * (distance / WIDTH) ** 2)


def between(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    """Give the place of a Gaussian's peak between -1/2 and 1/2 from the logarithms at three neighbouring points, the middle one the largest.

    Source: Li et al. 1999, equation of the modified three-point method.
    """
    return ((before - after) / (2 * (before - 2 * here + after)).clamp(max=-1e-6)).clamp(-0.5, 0.5)
