"""Add small patches into frames; differentiable in the patches."""

from __future__ import annotations

import torch
from torch import Tensor


def splat(patches: Tensor, frame: Tensor, row: Tensor, column: Tensor, frames: Tensor) -> Tensor:
    """Add each patch, centred on a pixel, to its frame; parts outside of the frame are lost.

    Args:
        patches: (n, planes, k, k) with k odd.
        frame: (n,) int64 frame of each patch.
        row, column: (n,) int64 pixel of the patch's centre, may lie outside of the frame.
        frames: (frames, planes, h, w) to which the patches are added (not changed).

    Returns:
        (frames, planes, h, w).
    """
    n, planes, k, _ = patches.shape
    count, _, h, w = frames.shape
    reach = torch.arange(k, device=patches.device) - k // 2
    rows = (row[:, None] + reach)[:, None, :, None].expand(n, planes, k, k)
    columns = (column[:, None] + reach)[:, None, None, :].expand(n, planes, k, k)
    plane = torch.arange(planes, device=patches.device)[None, :, None, None]
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    flat = ((frame[:, None, None, None] * planes + plane) * h + rows) * w + columns
    total = frames.reshape(-1).index_add(0, flat[inside], patches[inside])
    return total.reshape(count, planes, h, w)
