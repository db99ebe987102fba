"""LUENN's second network: from what the first one has drawn around a localization to the error that is to be expected of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .luenn_networks import FINER

HALF = 7  # the second network sees 15 x 15 points of the grids, 3.75 camera pixels
SIGMA_PER_MEAN = math.sqrt(math.pi / 2)  # of a Gaussian error: standard deviation over mean absolute value
AT_ONCE = 4096  # windows, so that memory does not grow with the number of emitters
LOG_LEAST, LOG_MOST = -6.0, 2.5


class ErrorNet(nn.Module):
    """Three small convolutions and two layers: (m, grids, 15, 15) to the logarithms of the mean absolute errors (m, axes).

    The paper says that it is "an additional convolutional neural network", no more; this one is ours.

    Args:
        grids: 2, or 1 without depth; their norm is put beside them.
        axes: 3, or 2 without depth.
    """

    def __init__(self, grids: int, axes: int) -> None:
        super().__init__()
        side = ((2 * HALF + 1 - 2) - 3) // 2 + 1 - 2
        self.see = nn.Conv2d(grids + 1, 16, 3)
        self.shrink = nn.Conv2d(16, 32, 3, stride=2)
        self.weigh = nn.Conv2d(32, 32, 3)
        self.join = nn.Linear(32 * side * side, 64)
        self.tell = nn.Linear(64, axes)
        nn.init.normal_(self.tell.weight, std=0.01)
        nn.init.constant_(self.tell.bias, math.log(0.1))

    def forward(self, around: Tensor) -> Tensor:
        """Give the logarithms, in camera pixels (x, y) and in halves of the depth range (z)."""
        x = torch.cat((around, around.square().sum(1, keepdim=True).sqrt()), 1)
        for layer in (self.see, self.shrink, self.weigh):
            x = functional.relu(layer(x))
        return self.tell(functional.relu(self.join(x.flatten(1)))).clamp(LOG_LEAST, LOG_MOST)

    def expected(self, grids: Tensor, frame: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Give the mean absolute errors (m, axes) to be expected at places (m,) of the grids; see `windows`."""
        parts = zip(*(place.split(AT_ONCE) for place in (frame, row, column)), strict=True)
        return torch.cat([self(windows(grids, *part)).exp() for part in parts])


def windows(grids: Tensor, frame: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Cut 15 x 15 points around places out of the grids.

    Args:
        grids: (n, c, 4 h, 4 w); beyond their ends there is nothing.
        frame, row, column: (m,) places.

    Returns:
        (m, c, 15, 15).
    """
    padded = functional.pad(grids, (HALF, HALF, HALF, HALF))
    steps = torch.arange(2 * HALF + 1, device=grids.device)
    rows, columns = (row[:, None] + steps)[:, :, None], (column[:, None] + steps)[:, None, :]
    return padded[frame[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def error_loss(log_mean: Tensor, error: Tensor) -> Tensor:
    """Give ``|d| / m + log m``, averaged: least where m is the mean of |d| among all that look alike.

    Args:
        log_mean: (m, axes) log m.
        error: (m, axes) d in the same units.
    """
    return (error.abs() * torch.exp(-log_mean) + log_mean).mean()


def reach_px() -> int:
    """Camera pixels that a window reaches beyond its middle."""
    return math.ceil((HALF + 1) / FINER)
