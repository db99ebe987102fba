"""Likelihood of groups: objective, gradient and Fisher matrix for several emitters and backgrounds that share a window.

`naive.py` defines the operation; `numba_cpu.py` is the fast one, imported (and compiled) at first use. The function here takes the fast one
for tensors on the CPU and the definition elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import naive


def score(
    counts: Tensor,
    dark: Tensor,
    extent: Tensor,
    which: Tensor,
    values: Tensor,
    slopes: Tensor,
    row: Tensor,
    column: Tensor,
    photons: Tensor,
    background: Tensor,
    gain: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score groups of patches against windows; arguments and result as in `naive.score`."""
    arguments = (counts, dark, extent, which, values, slopes, row, column, photons, background)
    if counts.device.type != "cpu":
        return naive.score(*arguments, gain)
    from . import numba_cpu

    arrays: list[Any] = [*(a.contiguous().numpy() for a in arguments), float(gain)]
    objective, gradient, fisher = numba_cpu.score(*arrays)
    return torch.from_numpy(objective), torch.from_numpy(gradient), torch.from_numpy(fisher)
