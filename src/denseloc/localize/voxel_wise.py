"""Voxel-wise regression: is there a molecule in this voxel, and where in it?

A voxel is one camera pixel wide and one slice of the depth range thick; with several focal planes there are as many slices as planes. One
fully convolutional network gives for each voxel the probability that it holds a molecule, and the molecule's place in it, from 0 to 1 along
each axis. It learns by the cross entropy of the voxels with molecules and of the hardest of the others, and by the absolute error of the
places.

Source: Aritake, Hino, Namiki, Asanuma, Hirose, Murata, "Single-molecule localization by voxel-wise regression using convolutional neural
network", Results in Optics 1 (2020) 100019, sections 3.2 and 4.2.

Where the paper and its public code differ: after each convolution stands ReLU, then batch normalization (the paper; the code has them the
other way round). The paper keeps the negatives whose loss is at least the p-th largest and does not say p; the code says three for each
positive of a frame. Here p is ``negatives`` (3) times the positives of the whole batch: one limit for all frames, as in the paper, so that
an empty frame with a bright blur is learned from as well. The random shifts of the planes belong to the simulation
(``training.plane_shift_nm``): there they are exact, whereas a shift of recorded frames would change their noise.

Ours: frames are normalised by background and noise; the presets tiny and small, a two-level residual network at half resolution; and
``suppression = "borders"``. The paper's own errors are mostly molecules near a border between voxels, which both voxels or none of them
report. Predictions of touching voxels (3 x 3 x 3) whose places are near each other are one molecule: probabilities add up, places are averaged.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy.special import expit, logit
from torch import Tensor, nn
from torch.nn import functional

from ..data import Emitters, Localizations
from ..units import PixelSize
from .base import Batch, LocalizerSettings, Scales
from .frame_by_frame import Found, FrameByFrame, frames_of
from .joining import join, weighted
from .layers import Residual, Upsample, bfloat16_helps, bias_of, compressed, standardised

SIZES = {"tiny": (24, 48), "small": (48, 96)}
PAPER_CHANNELS, PAPER_KERNELS = (16, 32, 64, 128, 64, 32, 16), (5, 5, 3, 3, 3, 3, 3)
DETECTION_BIAS = -5.0  # molecules are rare: start from few detections
CANDIDATE = 0.03  # voxels below this decide nothing
OWN_THRESHOLD = {"none": 0.5, "borders": 0.45}  # the paper's tau; of summed probabilities J / (1 + J) is best for a Jaccard index J
ROUNDS = 3  # of joining over borders; more than touching voxels ever need
NOMINAL = 0.1  # error that is stated before the first correction, in voxels


class VoxelWiseSettings(LocalizerSettings):
    """``[localizer] kind = "voxel_wise"``."""

    kind: Literal["voxel_wise"] = "voxel_wise"
    preset: Literal["tiny", "small", "paper"] = Field(
        "small", description="size: two CPU cores in under an hour ... the paper's", examples=["tiny"]
    )
    slices: int | None = Field(
        None, ge=1, le=64, description="voxels along the depth range; absent: as many as there are focal planes"
    )
    negatives: float = Field(
        3.0, gt=0, description="empty voxels that are learned from for each one with a molecule, hardest first"
    )
    suppression: Literal["borders", "none"] = Field(
        "borders", description="near predictions of touching voxels are one molecule, or each voxel by itself as in the paper"
    )
    border_nm: float | None = Field(
        None,
        gt=0,
        description="lateral distance up to which they are near; absent: half of a pixel. In z the same share of a slice",
    )
    threshold: float | None = Field(None, gt=0, lt=1, description="least probability; absent: 0.45, or 0.5 without suppression")

    def build(self, scales: Scales) -> VoxelWise:
        """Make the localizer, untrained."""
        return VoxelWise(self, scales)


class PaperNet(nn.Module):
    """Eight convolutions at full resolution, 5 x 5 twice and then 3 x 3, with ReLU and batch normalization between them.

    For four planes and slices it has 206 704 parameters.
    """

    stride, halo = 1, 10

    def __init__(self, planes: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = planes
        for channels, kernel in zip(PAPER_CHANNELS, PAPER_KERNELS, strict=True):
            layers += [nn.Conv2d(inputs, channels, kernel, padding=kernel // 2), nn.ReLU(), nn.BatchNorm2d(channels)]
            inputs = channels
        self.trunk = nn.Sequential(*layers)
        self.leave = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """From (n, planes, h, w) to (n, outputs, h, w)."""
        x = self.trunk(image)
        with torch.autocast(x.device.type, enabled=False):
            return self.leave(x.float())


class SmallNet(nn.Module):
    """Two levels of residual blocks at half and quarter resolution: less than a third of the paper's cost with a wider view.

    Args:
        planes: focal planes.
        outputs: maps.
        sizes: features at half and at quarter resolution.
    """

    stride, halo = 4, 36

    def __init__(self, planes: int, outputs: int, sizes: tuple[int, int]) -> None:
        super().__init__()
        features, deep = sizes
        self.enter = nn.Conv2d(4 * planes, features, 3, padding=1)
        self.before = Residual(features)
        self.down = nn.Conv2d(features, deep, 3, stride=2, padding=1)
        self.deep_blocks = nn.Sequential(Residual(deep), Residual(deep))
        self.up = Upsample(deep, features, "bilinear")
        self.after = Residual(features)
        self.leave = nn.Conv2d(features, 4 * outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """From (n, planes, h, w) to (n, outputs, h, w); sides are multiples of 4."""
        x = self.before(self.enter(functional.pixel_unshuffle(image, 2)))
        x = self.after(x + self.up(self.deep_blocks(self.down(functional.relu(x)))))
        with torch.autocast(x.device.type, enabled=False):
            return functional.pixel_shuffle(self.leave(functional.relu(x).float()), 2)


class VoxelWise(FrameByFrame):
    """Network, target, loss and decoding in one. It knows no photons, and its errors are nominal until they are corrected: a tenth of a voxel."""

    def __init__(self, settings: VoxelWiseSettings, scales: Scales) -> None:
        super().__init__(scales)
        self.settings = settings
        self.axes = 3 if scales.z_unit_nm else 2
        self.slices = (settings.slices or scales.planes) if scales.z_unit_nm else 1
        outputs = self.slices * (1 + self.axes)
        self.net: PaperNet | SmallNet
        if settings.preset == "paper":
            self.net = PaperNet(scales.planes, outputs)
        else:
            self.net = SmallNet(scales.planes, outputs, SIZES[settings.preset])
        self.halo_px, self.align_px = self.net.halo + 2 * ROUNDS + 1, self.net.stride
        nn.init.normal_(self.net.leave.weight, std=0.01)
        nn.init.zeros_(bias_of(self.net.leave))
        with torch.no_grad():
            bias_of(self.net.leave)[: len(bias_of(self.net.leave)) // (1 + self.axes)] = DETECTION_BIAS
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def voxel_nm(self) -> tuple[float, ...]:
        """Size (x, y) or (x, y, z) of a voxel."""
        y_nm, x_nm = self.scales.pixel_size_nm
        return (x_nm, y_nm, 2 * self.scales.z_unit_nm / self.slices)[: self.axes]

    def output(self, photons: Tensor, conditions: Tensor) -> Tensor:
        """Run the network: (n, slices (1 + axes), h, w) logits of the voxels, then of the places x, y (and z) in them, slice by slice."""
        image = compressed(standardised(photons, conditions)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=bfloat16_helps(image.device)):
            return self.net(image).float()

    # -------------------------------------------------------------------------------------------------------------------- learning

    def voxels_of(self, emitters: Emitters, shape_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Give the voxels with a molecule; of several in one voxel the brightest counts.

        Args:
            emitters: inside the frames.
            shape_px: (rows, columns) of a frame.

        Returns:
            (m, 4) frame, slice, row, column of distinct voxels; (m, axes) place x, y (and z) in them, 0 to 1.
        """
        rows, columns = shape_px
        e = emitters.select(torch.argsort(emitters.photons, stable=True))
        (y_nm, x_nm), unit = self.scales.pixel_size_nm, self.scales.z_unit_nm
        level = (e.z_nm / unit + 1) / 2 * self.slices if unit else torch.zeros_like(e.x_nm)
        place = torch.stack((e.x_nm / x_nm, e.y_nm / y_nm, level), 1)
        last = torch.tensor([columns, rows, self.slices], device=place.device) - 1
        corner = torch.minimum(place.floor().long().clamp(min=0), last)
        column, row, depth = corner.unbind(1)
        flat = ((e.frame * self.slices + depth) * rows + row) * columns + column
        distinct, which = torch.unique(flat, return_inverse=True)
        brightest = torch.zeros_like(distinct).scatter_reduce(0, which, torch.arange(len(e), device=flat.device), "amax")
        index = torch.stack((e.frame, depth, row, column), 1)[brightest]
        return index, (place - corner).clamp(0, 1)[brightest][:, : self.axes]

    def loss(self, maps: Tensor, emitters: Emitters) -> Tensor:
        """Give the loss for each molecule: cross entropy of its voxel and of the hardest empty ones, and the absolute error of its place.

        Source: Aritake et al. 2020, equation 11.

        Args:
            maps: as `output` gives them.
            emitters: true ones.
        """
        logit = maps[:, : self.slices]
        index, place = self.voxels_of(emitters, (maps.shape[-2], maps.shape[-1]))
        frame, depth, row, column = index.unbind(1)
        empty = torch.ones_like(logit, dtype=torch.bool)
        empty[frame, depth, row, column] = False
        wrong = functional.softplus(logit[empty])
        hardest = min(len(wrong), round(self.settings.negatives * max(len(index), len(maps))))
        loss = torch.topk(wrong, hardest, sorted=False).values.sum()
        loss = loss + functional.softplus(-logit[frame, depth, row, column]).sum()
        places = maps[:, self.slices :].unflatten(1, (self.slices, self.axes))[frame, depth, :, row, column]
        loss = loss + (torch.sigmoid(places) - place).abs().sum()
        return loss / max(1, len(index))

    def batch_loss(self, batch: Batch) -> Tensor:
        """Give the loss of a batch; the network runs in 16 bit where that is native."""
        return self.loss(self.output(*frames_of(batch)), batch.emitters)

    def hidden_weights(self) -> list[nn.Parameter]:
        """List the convolutions except those that the frames enter by and those that give the maps."""
        ends = ("enter", "trunk.0.", "leave")
        return [weight for name, weight in self.net.named_parameters() if weight.ndim == 4 and not name.startswith(ends)]

    # -------------------------------------------------------------------------------------------------------------------- decoding

    @property
    def least_probability(self) -> float:
        """The network's own probability from which on a localization is kept; what a person asks for is meant as it is reported."""
        asked = self.threshold or self.settings.threshold
        return OWN_THRESHOLD[self.settings.suppression] if asked is None else self.own_probability(asked)

    def read(self, output: Tensor, photons: Tensor, conditions: Tensor, pixel_size_nm: PixelSize) -> Found:
        """Decode maps; a localization belongs to the pixel of the voxel that was surest of it.

        The sigmoids are those of scipy: torch's differ in the last digit with an element's place in memory, and so with the block of frames.
        """
        score = output[:, : self.slices]
        borders, least = self.settings.suppression == "borders", self.least_probability
        index = torch.nonzero(score > float(logit(min(CANDIDATE, least) if borders else least)))
        frame, depth, row, column = index.unbind(1)
        inside = output[:, self.slices :].unflatten(1, (self.slices, self.axes))[frame, depth, :, row, column]
        corner = torch.stack((column, row, depth), 1)[:, : self.axes]
        place = corner.cpu().numpy() + expit(inside.double().cpu().numpy())
        surely = expit(score[frame, depth, row, column].double().cpu().numpy())
        voxel = index.cpu().numpy()
        if borders:
            near = 0.5 if self.settings.border_nm is None else self.settings.border_nm / float(np.sqrt(np.prod(pixel_size_nm)))
            founders, total, place = weighted(join_borders(voxel, surely, place, near, score.shape), surely, place)
            keep = total > least
            voxel, surely, place = voxel[founders][keep], np.minimum(total, 1.0)[keep], place[keep]
        return Found(self._table(voxel[:, 0], surely, place, pixel_size_nm), voxel[:, 2], voxel[:, 3])

    def _table(self, frame: np.ndarray, probability: np.ndarray, place: np.ndarray, pixel_size_nm: PixelSize) -> Localizations:
        """Give places in voxels their units."""
        y_nm, x_nm = pixel_size_nm
        columns = {"frame": frame, "x_nm": place[:, 0] * x_nm, "y_nm": place[:, 1] * y_nm, "probability": probability}
        columns |= {name: np.full(len(frame), NOMINAL * side) for name, side in (("sigma_x_nm", x_nm), ("sigma_y_nm", y_nm))}
        if self.axes == 3:
            thick, unit = self.voxel_nm[2], self.scales.z_unit_nm
            columns |= {"z_nm": place[:, 2] * thick - unit, "sigma_z_nm": np.full(len(frame), NOMINAL * thick)}
        return Localizations(columns)


def join_borders(
    voxel: np.ndarray, probability: np.ndarray, place: np.ndarray, near: float, shape: tuple[int, ...] | torch.Size
) -> np.ndarray:
    """Join predictions of touching voxels that lie near each other.

    Args:
        voxel: (m, 4) frame, slice, row, column of distinct voxels.
        probability: (m,).
        place: (m, 2 or 3) x, y (and z) in voxels.
        near: largest distance, in voxels.
        shape: frames, slices, rows and columns of all voxels.

    Returns:
        (m,) number of the prediction that each belongs to.
    """
    m = len(voxel)
    frames, *sides = shape
    number = np.full((frames, *(side + 2 for side in sides)), m)
    frame, depth, row, column = voxel.T
    number[frame, depth + 1, row + 1, column + 1] = np.arange(m)
    steps = [(z, y, x) for z in range(3) for y in range(3) for x in range(3) if (z, y, x) != (1, 1, 1)]
    neighbours = np.stack([number[frame, depth + z, row + y, column + x] for z, y, x in steps], 1) if m else np.empty((0, 26), int)
    far = np.concatenate((place, np.full((1, place.shape[1]), np.inf)))
    distance = np.square(far[neighbours] - place[:, None]).sum(2)
    return join(probability, neighbours, distance <= near**2, ROUNDS)
