"""Values of a stack of maps around emitters: trilinear between the map's nodes in x, y and z."""

from __future__ import annotations

import torch
from torch import Tensor


def polyphase(maps: Tensor, size: int, nodes_per_px: int) -> Tensor:
    """Sort the nodes of maps (nz, s k + 1, s k + 1) by their place inside a pixel: (nz, s + 1, s + 1, k, k)."""
    s = nodes_per_px
    windows = maps.unfold(1, (size - 1) * s + 1, 1).unfold(2, (size - 1) * s + 1, 1)
    return windows[..., ::s, ::s]


def interpolate(maps: Tensor, dx_px: Tensor, dy_px: Tensor, level: Tensor, size: int, nodes_per_px: int) -> Tensor:
    """Read maps at the pixel centres around emitters.

    Args:
        maps: (nz, s k + 1, s k + 1) nodes; node m lies ``m / s - k / 2`` px from the emitter (s nodes per pixel, k = size).
        dx_px, dy_px: (n,) emitter relative to the centre of the middle pixel, in -0.5 .. 0.5.
        level: (n,) z as a real index into the maps, clamped to the stack.
        size: k, the odd number of pixels of a patch.
        nodes_per_px: s.

    Returns:
        (n, k, k).
    """
    nz = maps.shape[0]
    phases = polyphase(maps, size, nodes_per_px)
    level = level.clamp(0, nz - 1)
    total = torch.zeros(len(dx_px), size, size, dtype=maps.dtype, device=maps.device)
    z0 = level.detach().floor().clamp(max=max(nz - 2, 0)).long()
    at_x, at_y = (0.5 - dx_px) * nodes_per_px, (0.5 - dy_px) * nodes_per_px
    x0 = at_x.detach().floor().clamp(0, nodes_per_px - 1).long()
    y0 = at_y.detach().floor().clamp(0, nodes_per_px - 1).long()
    fz, fx, fy = level - z0, at_x - x0, at_y - y0
    for step_z in range(2 if nz > 1 else 1):
        weight_z = fz if step_z else 1 - fz
        for step_y in range(2):
            weight_y = fy if step_y else 1 - fy
            for step_x in range(2):
                weight = weight_z * weight_y * (fx if step_x else 1 - fx)
                total = total + weight[:, None, None] * phases[z0 + step_z, y0 + step_y, x0 + step_x]
    return total
