"""What all frames of a movie say together: the mean of the features of its frames at each place."""

from __future__ import annotations

import torch
from torch import Tensor

from .tiles import Tile


class Overview:
    """Running mean of the features of frames over one region, filled frame by frame and tile by tile.

    Frames are added one after the other, so that the mean does not depend on the blocks in which they came. It takes 4 bytes for each feature and
    place: 0.2 GB for 48 features on a field of 1024 x 1024 places.

    Args:
        shape_px: (rows, columns) of the region.
        origin_px: (row, column) of its first pixel in the whole field.
        align_px: regions are filled up to multiples of this.
        place_px: pixels of a side of a place.
    """

    def __init__(self, shape_px: tuple[int, int], origin_px: tuple[int, int], align_px: int, place_px: int) -> None:
        self.shape_px, self.origin_px, self.align_px, self.place_px = shape_px, origin_px, align_px, place_px
        self.total: Tensor | None = None
        self.n_frames = 0

    def add(self, tile: Tile, features: Tensor) -> None:
        """Add features (n, f, h, w) of frames that passed the network as a tile; what lies in the tile's core counts."""
        if self.total is None:
            rows, columns = (self._places(slice(0, side)).stop for side in self.shape_px)
            self.total = torch.zeros(features.shape[1], rows, columns, device=features.device)
        inside, core = ([self._places(side) for side in sides] for sides in (tile.core_inside, tile.core))
        target = self.total[:, core[0], core[1]]
        for one in features[:, :, inside[0], inside[1]]:
            target += one

    def count(self, n: int) -> None:
        """Say that n more frames have been added in all tiles."""
        self.n_frames += n

    def mean(self, outer: tuple[slice, slice], region: tuple[int, int]) -> Tensor:
        """Give the mean (1, f, h, w) for the pixels ``outer`` of frames whose first pixel is ``region`` in the whole field."""
        assert self.total is not None
        rows, columns = (
            self._places(slice(side.start + there - here, side.stop + there - here))
            for side, there, here in zip(outer, region, self.origin_px, strict=True)
        )
        part = self.total[None, :, rows, columns] / self.n_frames
        return part.contiguous(memory_format=torch.channels_last)

    def covers(self, shape_px: tuple[int, int], origin_px: tuple[int, int]) -> bool:
        """Whether frames of this size and place lie in the region, at a place that fits the network's steps."""
        offsets = [there - here for there, here in zip(origin_px, self.origin_px, strict=True)]
        ends = zip(offsets, shape_px, self.shape_px, strict=True)
        return all(offset >= 0 and offset % self.align_px == 0 and offset + side <= whole for offset, side, whole in ends)

    def _places(self, side: slice) -> slice:
        """Turn pixels, which begin at a multiple of ``align_px``, into places."""
        stop = -(-side.stop // self.align_px) * self.align_px
        return slice(side.start // self.place_px, stop // self.place_px)
