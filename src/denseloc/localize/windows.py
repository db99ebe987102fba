"""Windows of a fixed size over a field of any size, for networks that take no other; each answers for its core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Windows:
    """Square windows that lie inside of the field, the last ones flush with its end; one window with room to spare where the field is smaller.

    The cores meet in the middle of where two windows overlap, so that each is at least ``halo_px`` away from the window's ends, except at the
    ends of the field.

    Args:
        shape_px: (rows, columns) of the field.
        side_px: of a window, above twice the halo.
        halo_px: least distance.
    """

    shape_px: tuple[int, int]
    side_px: int
    halo_px: int

    def _starts(self, length: int) -> np.ndarray:
        if length <= self.side_px:
            return np.zeros(1, int)
        step = self.side_px - 2 * self.halo_px
        count = -(-(length - self.side_px) // step) + 1
        return np.rint(np.linspace(0, length - self.side_px, count)).astype(int)

    @property
    def corners(self) -> Tensor:
        """(windows, 2) row and column of each window's first pixel, row by row."""
        rows, columns = (torch.from_numpy(self._starts(length)) for length in self.shape_px)
        return torch.cartesian_prod(rows, columns).reshape(-1, 2)

    def cut(self, images: Tensor) -> Tensor:
        """Cut images (n, planes, h, w) into (n, windows, planes, side, side); what is missing is 0."""
        bottom, right = (max(0, self.side_px - side) for side in images.shape[-2:])
        padded = functional.pad(images, (0, right, 0, bottom))
        side = self.side_px
        return torch.stack([padded[..., r : r + side, c : c + side] for r, c in self.corners.tolist()], 1)

    def _cuts(self, axis: int) -> np.ndarray:
        """Give the ends of the cores along an axis, in px: one more than there are windows."""
        starts = self._starts(self.shape_px[axis])
        between = (starts[1:] + starts[:-1] + self.side_px) / 2
        return np.concatenate(([0.0], between, [float(self.shape_px[axis])]))

    def owns(self, window: np.ndarray, at_px: np.ndarray, margin_px: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
        """Tell whether places lie in the cores of windows, widened by a margin at the cuts between them but not at the ends of the field.

        Args:
            window: (m,) numbers of windows.
            at_px: (m, 2) row and column from the outer corner of the field's first pixel.
            margin_px: (rows, columns).
        """
        along = np.unravel_index(window, [len(self._starts(length)) for length in self.shape_px])
        inside = np.ones(len(window), bool)
        for axis, margin in enumerate(margin_px):
            cuts, at = self._cuts(axis), at_px[:, axis]
            low, high = cuts[:-1] - margin, cuts[1:] + margin
            low[0], high[-1] = cuts[0], cuts[-1]
            inside &= (at >= low[along[axis]]) & (at < high[along[axis]])
        return inside

    def near_cut(self, at_px: np.ndarray, margin_px: tuple[float, float]) -> np.ndarray:
        """Tell whether places (m, 2) lie within the margin of a cut between two cores, so that more than one window may have found them."""
        near = np.zeros(len(at_px), bool)
        for axis, margin in enumerate(margin_px):
            for cut in self._cuts(axis)[1:-1]:
                near |= np.abs(at_px[:, axis] - cut) <= margin
        return near
