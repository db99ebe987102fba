"""What Deep-STORM and DeepSTORM3D share: a network gives emitters per voxel, local maxima of which become localizations."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Emitters
from ..units import PixelSize
from .base import Batch, Scales
from .frame_by_frame import Found, FrameByFrame, frames_of
from .layers import bfloat16_helps, compressed, standardised
from .peaks import VoxelGrid, find_peaks, lone_energy, lone_height, smoothed

FAINT = 0.02  # of the height of a sure emitter; lower voxels are not looked at


class OnVoxels(FrameByFrame):
    """A network from frames to the expected number of emitters in each voxel of a finer grid.

    Args:
        net: from (n, planes, h, w) to emitters per voxel (n, depths, h finer, w finer), with ``stride`` and ``halo`` in camera pixels, and a last layer ``leave``.
        grid: the voxels.
        reach: (depth, row, column) in voxels within which there is one localization.
        scales: of the experiment.
        threshold: least probability that the document asks for, None for the method's own.
    """

    own_threshold: float = 0.5

    def __init__(
        self, net: Any, grid: VoxelGrid, reach: tuple[int, int, int], scales: Scales, threshold: float | None
    ) -> None:
        super().__init__(scales)
        self.net, self.grid, self.reach, self.asked = net, grid, reach, threshold
        self.alone = lone_energy(grid.depths)
        self.halo_px = net.halo + 1 + -(-max(reach[1:]) // grid.finer)  # smoothing reaches less than a pixel
        self.align_px = net.stride
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def output(self, photons: Tensor, conditions: Tensor) -> Tensor:
        """Give the expected number of emitters (n, depths, h finer, w finer); below zero where the network errs.

        The frames are brought to the noise of the experiment's own conditions, as in training.
        """
        told = self.scales.reference.tensor(len(photons), photons.device)
        image = compressed(standardised(photons, told)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(photons.device.type, dtype=torch.bfloat16, enabled=bfloat16_helps(photons.device)):
            maps: Tensor = self.net(image)
        return maps.float()

    def read(self, output: Tensor, photons: Tensor, conditions: Tensor, pixel_size_nm: PixelSize) -> Found:
        """Find the maxima; the probability is the number of emitters expected around each, at most 1."""
        maps = smoothed(output)
        peaks = find_peaks(maps, FAINT * lone_height(self.grid.depths), self.reach)
        peaks = peaks.select(peaks.probability >= self.least_probability)
        frame_row_column = (peaks.at // torch.tensor([1, 1, self.grid.finer, self.grid.finer], device=peaks.at.device)).cpu().numpy()
        return Found(peaks.table(self.grid, pixel_size_nm), frame_row_column[:, 2], frame_row_column[:, 3])

    @property
    def least_probability(self) -> float:
        """The method's own probability from which on a localization is kept; what a person asks for is meant as it is reported."""
        asked = self.threshold or self.asked
        return self.own_threshold if asked is None else self.own_probability(asked)

    def batch_loss(self, batch: Batch) -> Tensor:
        """Give the loss of a batch; the network runs in 16 bit where that is native."""
        return self.loss(self.output(*frames_of(batch)), batch.emitters)

    @abstractmethod
    def loss(self, found: Tensor, emitters: Emitters) -> Tensor:
        """Compare emitters per voxel (n, depths, rows, columns) with the true ones."""

    def error_and_energy(self, found: Tensor, emitters: Emitters) -> tuple[Tensor, Tensor]:
        """Compare the smoothed grid p with the smoothed truth t.

        Returns:
            ``sum (p - t)^2`` and ``sum p^2 + sum t^2`` (and 1, for empty frames), both in units of one emitter and per emitter.
        """
        with torch.no_grad():
            truth = self.grid.smooth_truth(emitters, len(found), (found.shape[2], found.shape[3]), self.scales.pixel_size_nm)
        smooth = smoothed(found)
        own, both, wanted = torch.linalg.vector_norm(smooth).square(), _product(smooth, truth), _product(truth, truth)
        unit = self.alone * max(1, len(emitters))
        return (own - 2 * both + wanted) / unit, (own + wanted) / unit + 1 / max(1, len(emitters))

    def hidden_weights(self) -> list[nn.Parameter]:
        """List the convolutions except those that the frames enter by and that give the voxels."""
        ends = ("enter", "leave", "layers.0.", "trunk.0.")
        return [weight for name, weight in self.net.named_parameters() if weight.ndim == 4 and not name.startswith(ends)]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Sum the products of two grids of one layout."""
    return torch.dot(a.permute(0, 2, 3, 1).reshape(-1), b.permute(0, 2, 3, 1).reshape(-1))
