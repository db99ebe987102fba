"""What Deep-STORM and DeepSTORM3D share: a network gives emitters per voxel, local maxima of which become localizations."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Emitters
from ..errors import ModelError, TrainingError
from ..units import PixelSize
from .base import Batch, Scales
from .frame_by_frame import Found, FrameByFrame, frames_of
from .layers import bfloat16_helps, compressed, standardised
from .peaks import VoxelGrid, find_peaks, lone_energy, lone_height, smoothed

TILE_VOXELS = 1 << 26  # of a tile: a quarter of a GB for each copy of its grid
LEAST_TILE_PX, LEAST_PLANES = 32, 3
ROOM = 0.8  # of the free memory that may be used
FAINT = 0.02  # of the height of a sure emitter; lower voxels are not looked at


class OnVoxels(FrameByFrame):
    """A network from frames to the expected number of emitters in each voxel of a finer grid.

    Args:
        net: from (n, planes, h, w) to emitters per voxel (n, depths, h finer, w finer); with ``stride`` and ``halo`` in camera pixels,
            ``bytes_per_px``, and a last layer ``leave``.
        grid: the voxels.
        reach: (depth, row, column) in voxels within which there is one localization.
        scales: of the experiment.
        threshold: least probability that the document asks for, None for the method's own.
    """

    own_threshold: float = 0.3

    def __init__(self, net: Any, grid: VoxelGrid, reach: tuple[int, int, int], scales: Scales, threshold: float | None) -> None:
        super().__init__(scales)
        self.net, self.grid, self.reach, self.asked = net, grid, reach, threshold
        self.alone = lone_energy(grid.depths)
        self.halo_px = net.halo + 1 + -(-max(reach[1:]) // grid.finer)  # smoothing reaches less than a pixel
        self.align_px, self.picture_px = net.stride, grid.finer
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
        frame_row_column = (
            (peaks.at // torch.tensor([1, 1, self.grid.finer, self.grid.finer], device=peaks.at.device)).cpu().numpy()
        )
        return Found(peaks.table(self.grid, pixel_size_nm), frame_row_column[:, 2], frame_row_column[:, 3])

    def picture(self, output: Tensor) -> Tensor:
        """Add up what is above zero, over frames and depths."""
        return output.clamp(min=0).sum((0, 1))

    @property
    def largest_tile_px(self) -> int:
        """Tiles hold no more voxels than stay at hand, rims included."""
        side = math.sqrt(TILE_VOXELS / (self.grid.finer**2 * self.grid.depths))
        return max(LEAST_TILE_PX, int(side) - 2 * self.halo_px)

    def check_fits(self, free_bytes: float, n_frames: int, shape_px: tuple[int, int], training: bool) -> None:
        """Check that memory suffices; see `Localizer.check_fits`."""
        most = (1 << 30) if training else self.largest_tile_px + 2 * self.halo_px
        pixels = n_frames * min(shape_px[0], most) * min(shape_px[1], most)
        needed, room = pixels * self.net.bytes_per_px(self.grid.depths, training), ROOM * free_bytes
        if needed <= room:
            return
        at_one = pixels * self.net.bytes_per_px(1, training)
        per_plane = pixels * self.net.bytes_per_px(2, training) - at_one
        planes = 1 + int((room - at_one) / per_plane) if per_plane and room > at_one else 0
        ways = [f"with {planes} planes (localizer.depths)"] if planes >= LEAST_PLANES else []
        if training and (fewer := int(n_frames * room / needed)):
            ways.append(f"with {fewer} frames at once in place of {n_frames} (training.batch_size times training.frames)")
        kind = TrainingError if training else ModelError
        raise kind(
            f"{'training' if training else 'localizing'} needs about {needed / 1e9:.3g} GB for {self.grid.depths} planes of voxels "
            f"{self.grid.finer} times finer than {min(shape_px[0], most)} x {min(shape_px[1], most)} px, {free_bytes / 1e9:.3g} GB are free; "
            + (f"it fits {' or '.join(ways)}" if ways else "take a machine with more memory")
        )

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
