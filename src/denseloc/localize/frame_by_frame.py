"""Networks that look at each frame alone: how one is fed with tiles and batches, and how what it finds is put together."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data import Frames, Localizations
from ..units import PixelSize
from .base import Batch, TrainableLocalizer
from .tiles import tiles

BATCH_PX = 1 << 14  # camera pixels of a batch at inference


@dataclass(frozen=True)
class Found:
    """What a network found in a batch of frames of one size.

    Args:
        table: rows with ``frame`` counted from 0 in the batch and positions from the corner of the first pixel.
        row, column: (n,) int64, the camera pixel that owns each row: the same whatever tile the frame was cut into. A tile keeps the rows whose
            owner lies in its core.
    """

    table: Localizations
    row: np.ndarray
    column: np.ndarray


class FrameByFrame(TrainableLocalizer):
    """A network that looks at each frame alone.

    A method gives `output` (frames to whatever its network says of them) and `read` (from that to rows); tiles, batches, ends and units of the
    field are done here. ``halo_px`` and ``align_px`` must cover the network's reach and its strides.
    """

    context = 0

    @abstractmethod
    def output(self, photons: Tensor, conditions: Tensor) -> Tensor:
        """Run the network.

        Args:
            photons: (n, planes, h, w), sides multiples of ``align_px``.
            conditions: (n, 4) background, excess, noise variance, PSF width in px.

        Returns:
            (n, ...) maps or lists, as `read` takes them.
        """

    @abstractmethod
    def read(self, output: Tensor, photons: Tensor, conditions: Tensor, pixel_size_nm: PixelSize) -> Found:
        """Decode what `output` gave of the same photons and conditions; keeps what `threshold` asks for."""

    def localize_batch(self, batch: Batch) -> Localizations:
        """Localize the frames of a batch."""
        photons, conditions = frames_of(batch)
        size = max(1, BATCH_PX // (photons.shape[-2] * photons.shape[-1]))
        parts = []
        for i in range(0, len(photons), size):
            part, told = photons[i : i + size], conditions[i : i + size]
            table = self.read(self.output(part, told), part, told, self.scales.pixel_size_nm).table
            parts.append(table.with_columns(frame=table.frame + i))
        return Localizations.concat(parts).sort()

    @property
    def largest_tile_px(self) -> int:
        """Tiles are no larger than this, whatever is asked for."""
        return 1 << 16

    @torch.inference_mode()
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize; see `Localizer.forward`."""
        return self._localized(frames, keep, tile_px, None)

    def picture(self, output: Tensor) -> Tensor:
        """Give the sum (h picture_px, w picture_px) of the images in what `output` gave; only methods with ``picture_px`` do."""
        raise NotImplementedError(f"{type(self).__name__} gives no picture")

    @torch.inference_mode()
    def with_picture(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> tuple[Localizations, Tensor]:
        """Localize and add up the images; see `Localizer.with_picture`."""
        if not self.picture_px:
            return super().with_picture(frames, keep, tile_px)
        rows, columns = (side * self.picture_px for side in frames.shape_px)
        canvas = torch.zeros(rows, columns, device=frames.photons.device)
        return self.corrected(self._localized(frames, keep, tile_px, canvas), frames), canvas

    def _localized(self, frames: Frames, keep: tuple[int, int] | None, tile_px: int, canvas: Tensor | None) -> Localizations:
        """Localize tile by tile and batch by batch; a canvas gets the images."""
        first = frames.first_frame
        start, stop = (first, first + len(frames)) if keep is None else keep
        parts = []
        for tile in tiles(frames.shape_px, min(tile_px, self.largest_tile_px), self.halo_px, self.align_px):
            photons = _padded(frames.photons[start - first : stop - first, :, tile.outer[0], tile.outer[1]], self.align_px)
            batch = max(1, BATCH_PX // (photons.shape[-2] * photons.shape[-1]))
            conditions = self.conditions.tensor(batch, photons.device)
            for index in range(0, len(photons), batch):
                part = photons[index : index + batch]
                told = conditions[: len(part)]
                output = self.output(part, told)
                if canvas is not None:
                    at, inside = (tuple(_finer(side, self.picture_px) for side in sides) for sides in (tile.core, tile.core_inside))
                    canvas[at] += self.picture(output)[inside]
                found = self.read(output, part, told, frames.pixel_size_nm)
                (top, bottom), (left, right) = ((side.start, side.stop) for side in tile.core_inside)
                kept = (found.row >= top) & (found.row < bottom) & (found.column >= left) & (found.column < right)
                table = found.table.select(kept)
                table = table.with_columns(frame=table.frame + start + index)
                y_nm, x_nm = frames.pixel_size_nm
                rows, columns = (o + side.start for o, side in zip(frames.origin_px, tile.outer, strict=True))
                parts.append(table.shifted(columns * x_nm, rows * y_nm))
        return Localizations.concat(parts).sort()


def _finer(side: slice, times: int) -> slice:
    return slice(side.start * times, side.stop * times)


def frames_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Give the frames (b t, planes, h, w) of a batch and their conditions (b t, 4)."""
    return batch.photons.flatten(0, 1), batch.conditions.repeat_interleave(batch.photons.shape[1], 0)


def _padded(photons: Tensor, align_px: int) -> Tensor:
    """Repeat the last row and column until the sides are multiples of ``align_px``."""
    bottom, right = (-side % align_px for side in photons.shape[-2:])
    return functional.pad(photons, (0, right, 0, bottom), mode="replicate") if bottom or right else photons
