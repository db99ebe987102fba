"""DeepLoco: one network from a frame to a list of molecules, learned by comparing lists as distributions.

Convolutions shrink a frame of fixed size, dense layers turn what is left into a fixed number of rows: a weight and a place x, y (and z) each.
The loss is the maximum mean discrepancy between the rows and the true molecules, both taken as sums of weighted points. It needs no pairing:

    sum over scales s of  w' K_s w  with  w = (weights of the rows, -1 for each molecule),  K_s(a, b) = exp(-|a - b|_1 / s)

Source: Boyd, Jonas, Babcock, Recht, "DeepLoco: fast 3D localization microscopy using neural networks", bioRxiv 267096 (2018).

Sizes, kernels (64, 320, 640 and 1920 nm, depth counted a fifth) and the joining of rows within 100 nm are those of its public code. That code has 64
rows for sparse movies; the preset "paper" has 256 rows for 64 x 64 pixels, the size that Speiser et al. 2019 compare with. As in the code a
molecule weighs 1, so that a weight tells how sure the network is, and photons are not known.

Ours: weights pass a sigmoid and not a ReLU, as no row stands for more than one molecule and a row at zero would learn no more; rows begin spread
over the volume and not all in its middle; joining goes from the surest row on and not along chains of near rows. Rows share a molecule where the
network wavers between them: their weights add up, to 1 at most, and their places are averaged.

The input has a fixed size. Larger fields are cut into overlapping windows of this size, each of which answers for its core; smaller ones are
filled up with background.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..data import Emitters, Frames, Localizations
from ..errors import TrainingError
from ..units import PixelSize
from .base import Batch, LocalizerSettings, Scales
from .frame_by_frame import Found, FrameByFrame, frames_of
from .joining import join_lists, surest, weighted
from .layers import compressed, standardised
from .windows import Windows

SIZES = {"tiny": (16, 6, 2, 96, 24), "small": (32, 8, 2, 256, 64), "paper": (64, 16, 4, 1024, 256)}
"""Side of the input in px, features at full resolution, last reduction, features of the dense layers, rows."""
HALO_PX = 5  # rows nearer than this to the end of a window are left to its neighbour, at least
WINDOWS_AT_ONCE = 16  # always as many, so that rounding does not depend on how frames are batched
CANDIDATE = 0.02  # rows below this stand for nothing
OWN_THRESHOLD = 0.35  # 0.3 in the public code
WEIGHT_BIAS = -4.0
DEPTH_SHARE = 0.2  # of z in distances
ROUNDS = 8
NOMINAL_PX = 0.15  # error that is stated before the first correction


class DeepLocoSettings(LocalizerSettings):
    """``[localizer] kind = "deep_loco"``."""

    kind: Literal["deep_loco"] = "deep_loco"
    preset: Literal["tiny", "small", "paper"] = Field(
        "small", description="size: two CPU cores in under an hour ... the paper's", examples=["tiny"]
    )
    kernels_nm: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (64.0, 320.0, 640.0, 1920.0), min_length=1, description="scales of the kernels that compare lists of molecules"
    )
    merge_nm: float = Field(100.0, gt=0, description="rows nearer than this, with a fifth of z, are one molecule")
    threshold: float | None = Field(None, gt=0, lt=1, description="least probability of a localization; absent: 0.35")

    def build(self, scales: Scales) -> DeepLoco:
        """Make the localizer, untrained."""
        return DeepLoco(self, scales)


class DenseResidual(nn.Module):
    """``x + dense(relu(dense(x)))``; begins as the identity."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, features), nn.Linear(features, features, bias=False)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, features)."""
        return x + self.second(functional.relu(self.first(x)))


class ListNet(nn.Module):
    """Convolutions of 5 x 5 and 3 x 3 pixels in pairs, strided ones between them, two residual dense blocks, and the rows.

    Args:
        planes: focal planes.
        axes: 2 or 3.
        size: as in `SIZES`.
    """

    def __init__(self, planes: int, axes: int, size: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        side, f, last, dense, rows = size
        layers: list[nn.Module] = []
        for inputs, outputs, kernel in ((planes, f, 5), (4 * f, 4 * f, 3), (16 * f, 16 * f, 3)):
            for i in range(2):
                layers += [nn.Conv2d(inputs if i == 0 else outputs, outputs, kernel, padding=kernel // 2), nn.ReLU()]
            stride = 2 if outputs < 16 * f else last
            layers.append(nn.Conv2d(outputs, min(4 * outputs, 16 * f), stride, stride=stride))
        self.trunk = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Linear(16 * f * (side // 4 // last) ** 2, dense), DenseResidual(dense), DenseResidual(dense))
        self.leave = nn.Linear(dense, rows * (1 + axes))
        with torch.no_grad():
            self.leave.weight.mul_(0.3)
            self.leave.bias[:rows] = WEIGHT_BIAS
            self.leave.bias[rows:] = torch.logit(spread(rows, axes)).flatten()

    def forward(self, image: Tensor) -> Tensor:
        """From (n, planes, side, side) to (n, rows (1 + axes))."""
        return self.leave(self.dense(self.trunk(image).flatten(1)))


def spread(n: int, axes: int) -> Tensor:
    """Spread n points evenly over the unit cube, (n, axes), 0.1 from its sides; any first few of them are spread as well.

    Source: Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018): steps of the inverse powers of the root of
    ``x^(axes + 1) = x + 1``.
    """
    root = 2.0
    for _ in range(40):
        root = (1 + root) ** (1 / (axes + 1))
    steps = root ** -torch.arange(1, axes + 1, dtype=torch.float64)
    points = (0.5 + torch.arange(n, dtype=torch.float64)[:, None] * steps) % 1
    return (0.1 + 0.8 * points).float()


class DeepLoco(FrameByFrame):
    """Network, loss and reading of the rows in one. Its errors are nominal until they are corrected: 0.15 pixels, in z 2.5 times as much."""

    def __init__(self, settings: DeepLocoSettings, scales: Scales) -> None:
        super().__init__(scales)
        self.settings = settings
        self.axes = 3 if scales.z_unit_nm else 2
        size = SIZES[settings.preset]
        self.side, self.rows = size[0], size[-1]
        self.net = ListNet(scales.planes, self.axes, size)

    def windows(self, shape_px: tuple[int, int], halo_px: int = HALO_PX) -> Windows:
        """Lay the windows over a field of (rows, columns)."""
        return Windows(shape_px, self.side, halo_px)

    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize; see `Localizer.forward`. The windows are the tiles, whatever ``tile_px`` says."""
        return super().forward(frames, keep, tile_px=max(frames.shape_px))

    def output(self, photons: Tensor, conditions: Tensor) -> Tensor:
        """Run the network on all windows: (n, windows, rows, 1 + axes), logits of the weight and of the place from 0 to 1 in the window."""
        cut = self.windows((photons.shape[-2], photons.shape[-1])).cut(self.prepare(photons, conditions))
        whole = cut.flatten(0, 1)
        missing = -len(whole) % WINDOWS_AT_ONCE
        filled = torch.cat((whole, whole[-1:].expand(missing, -1, -1, -1)))
        flat = torch.cat([self.net(part) for part in filled.split(WINDOWS_AT_ONCE)])[: len(whole)]
        return self.lists(flat).unflatten(0, cut.shape[:2])

    def prepare(self, photons: Tensor, conditions: Tensor) -> Tensor:
        """Normalise frames (n, planes, h, w) by background and noise, and compress bright pixels."""
        return compressed(standardised(photons, conditions))

    def lists(self, flat: Tensor) -> Tensor:
        """Part what the network gives of n windows, (n, rows (1 + axes)), into rows (n, rows, 1 + axes)."""
        weight, place = flat[:, : self.rows, None], flat[:, self.rows :].unflatten(1, (self.rows, self.axes))
        return torch.cat((weight, place), 2)

    # -------------------------------------------------------------------------------------------------------------------- learning

    @property
    def extent_nm(self) -> tuple[float, ...]:
        """Size (x, y) or (x, y, z) of a window."""
        y_nm, x_nm = self.scales.pixel_size_nm
        return (self.side * x_nm, self.side * y_nm, 2 * self.scales.z_unit_nm)[: self.axes]

    def loss(self, lists: Tensor, place: Tensor, real: Tensor) -> Tensor:
        """Give the maximum mean discrepancy for each molecule.

        Args:
            lists: (n, rows, 1 + axes) logits of the rows of n windows.
            place: (n, k, axes) true places in the windows, from 0 to 1.
            real: (n, k) 1 where there is a molecule, 0 where the list is filled up.
        """
        points = torch.cat((torch.sigmoid(lists[:, :, 1:]), place), 1)
        weights = torch.cat((torch.sigmoid(lists[:, :, 0]), -real), 1)
        scale = points.new_tensor([*self.extent_nm[:2], DEPTH_SHARE * self.extent_nm[2] if self.axes == 3 else 0.0][: self.axes])
        scaled = points * scale
        distance = (scaled[:, :, None] - scaled[:, None]).abs().sum(-1)
        kernel = torch.stack([torch.exp(-distance / s) for s in self.settings.kernels_nm]).sum(0)
        every = torch.einsum("ni,nij,nj->n", weights, kernel, weights)
        return every.sum() / real.sum().clamp(min=1)

    def truth(self, emitters: Emitters, n: int, windows: Windows) -> tuple[Tensor, Tensor]:
        """Give the true lists of the windows of n frames, filled up to one length; a molecule counts in all windows in which it lies.

        Returns:
            ``place`` and ``real`` as `loss` takes them.
        """
        (y_nm, x_nm), unit = self.scales.pixel_size_nm, self.scales.z_unit_nm
        corners = windows.corners.to(emitters.x_nm)
        x, y = (
            (emitters.x_nm[:, None] / x_nm - corners[:, 1]) / self.side,
            (emitters.y_nm[:, None] / y_nm - corners[:, 0]) / self.side,
        )
        which, window = torch.nonzero((x >= 0) & (x < 1) & (y >= 0) & (y < 1), as_tuple=True)
        place = torch.stack((x[which, window], y[which, window]), 1)
        if self.axes == 3:
            place = torch.cat((place, (emitters.z_nm[which, None] / unit + 1) / 2), 1)
        number = emitters.frame[which] * len(corners) + window
        order = torch.argsort(number, stable=True)
        number, place = number[order], place[order]
        counts = torch.bincount(number, minlength=n * len(corners))
        nth = torch.arange(len(number), device=number.device) - (counts.cumsum(0) - counts)[number]
        longest = int(counts.max()) if len(number) else 0
        padded = place.new_zeros(n * len(corners), longest, self.axes)
        real = place.new_zeros(n * len(corners), longest)
        padded[number, nth], real[number, nth] = place, 1.0
        return padded, real

    def batch_loss(self, batch: Batch) -> Tensor:
        """Give the loss of a batch; patches larger than the input are cut into windows without need to overlap.

        Raises:
            TrainingError: the patches are smaller than the input.
        """
        photons, conditions = frames_of(batch)
        if min(photons.shape[-2:]) < self.side:
            raise TrainingError(
                f"training.patch_px {photons.shape[-1]}; the preset '{self.settings.preset}' of deep_loco looks at {self.side} x {self.side} pixels: "
                f"make it {self.side} or a multiple of it"
            )
        windows = self.windows((photons.shape[-2], photons.shape[-1]), halo_px=0)
        lists = self.lists(self.net(windows.cut(self.prepare(photons, conditions)).flatten(0, 1)))
        return self.loss(lists, *self.truth(batch.emitters, len(photons), windows))

    def hidden_weights(self) -> list[nn.Parameter]:
        """List the weights except those that the frames enter by and those that give the rows."""
        ends = ("trunk.0.", "leave")
        return [weight for name, weight in self.net.named_parameters() if weight.ndim >= 2 and not name.startswith(ends)]

    # -------------------------------------------------------------------------------------------------------------------- reading

    @property
    def least_probability(self) -> float:
        """The network's own probability from which on a localization is kept; what a person asks for is meant as it is reported."""
        asked = self.threshold or self.settings.threshold
        return OWN_THRESHOLD if asked is None else self.own_probability(asked)

    def read(self, output: Tensor, photons: Tensor, conditions: Tensor, pixel_size_nm: PixelSize) -> Found:
        """Join rows to localizations, window by window, and take of each window what lies in its core."""
        shape = (photons.shape[-2], photons.shape[-1])
        weight = torch.sigmoid(output[..., 0])
        frame, window, row = torch.nonzero(weight > min(CANDIDATE, self.least_probability), as_tuple=True)
        surely = weight[frame, window, row].double().cpu().numpy()
        inside = torch.sigmoid(output[..., 1:])[frame, window, row].double().cpu().numpy()
        list_of = (frame * output.shape[1] + window).cpu().numpy()
        y_nm, x_nm = pixel_size_nm
        sizes = np.array([self.side * x_nm, self.side * y_nm, 2 * self.scales.z_unit_nm][: self.axes])
        place = inside * sizes
        near = np.array([1.0, 1.0, DEPTH_SHARE][: self.axes]) / self.settings.merge_nm
        founders, total, place = weighted(join_lists(list_of, surely, place * near, ROUNDS), surely, place)
        keep = total > self.least_probability
        surely, place, number = np.minimum(total, 1.0)[keep], place[keep], list_of[founders][keep]
        frames, window_of = number // output.shape[1], number % output.shape[1]
        windows = self.windows(shape)
        place[:, :2] += windows.corners.numpy()[window_of][:, ::-1] * (x_nm, y_nm)
        margin = (self.settings.merge_nm / y_nm, self.settings.merge_nm / x_nm)
        at_px = place[:, 1::-1] / (y_nm, x_nm)
        mine = windows.owns(window_of, at_px, margin)
        doubtful = mine & windows.near_cut(at_px, (2 * margin[0], 2 * margin[1]))
        mine[doubtful] = surest(frames[doubtful], window_of[doubtful], surely[doubtful], place[doubtful] * near)
        pixel = np.clip(np.floor(at_px).astype(int), 0, np.array(shape) - 1)[mine]
        return Found(self._table(frames[mine], surely[mine], place[mine], pixel_size_nm), pixel[:, 0], pixel[:, 1])

    def _table(self, frame: np.ndarray, probability: np.ndarray, place: np.ndarray, pixel_size_nm: PixelSize) -> Localizations:
        y_nm, x_nm = pixel_size_nm
        columns = {"frame": frame, "x_nm": place[:, 0], "y_nm": place[:, 1], "probability": probability}
        columns |= {name: np.full(len(frame), NOMINAL_PX * side) for name, side in (("sigma_x_nm", x_nm), ("sigma_y_nm", y_nm))}
        if self.axes == 3:
            sigma_z = 2.5 * NOMINAL_PX * math.sqrt(x_nm * y_nm)
            columns |= {"z_nm": place[:, 2] - self.scales.z_unit_nm, "sigma_z_nm": np.full(len(frame), sigma_z)}
        return Localizations(columns)
