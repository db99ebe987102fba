"""Likelihood of spots in windows: objective, gradient and Fisher matrix for one emitter and a background each, or for groups of emitters.

`naive.py` defines the operations; `numba_cpu.py` is the fast one, with logarithms and the like in `elementary.py`, imported (and compiled) at
first use. The functions here take the fast one for tensors on the CPU and the definition elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import groups_naive, naive


def score(
    counts: Tensor,
    dark: Tensor,
    which: Tensor,
    values: Tensor,
    slopes: Tensor,
    row: Tensor,
    column: Tensor,
    photons: Tensor,
    background: Tensor,
    gain: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score patches against windows; arguments and result as in `naive.score`."""
    arguments = (counts, dark, which, values, slopes, row, column, photons, background)
    if counts.device.type != "cpu":
        return naive.score(*arguments, gain)
    from . import numba_cpu

    arrays: list[Any] = [*(a.contiguous().numpy() for a in arguments), float(gain)]
    objective, gradient, fisher = numba_cpu.score(*arrays)
    return torch.from_numpy(objective), torch.from_numpy(gradient), torch.from_numpy(fisher)


def score_aligned(
    counts: Tensor,
    dark: Tensor,
    which: Tensor,
    position: Tensor,
    width: Tensor,
    growth: Tensor,
    photons: Tensor,
    background: Tensor,
    gain: float,
    n_slopes: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score Gaussians aligned with the pixels against windows; arguments and result as in `naive.score_aligned`."""
    arguments = (counts, dark, which, position, width, growth, photons, background)
    if counts.device.type != "cpu":
        return naive.score_aligned(*arguments, gain, n_slopes)
    from . import numba_cpu

    arrays: list[Any] = [*(a.contiguous().numpy() for a in arguments), float(gain), n_slopes]
    objective, gradient, fisher = numba_cpu.score_aligned(*arrays)
    return torch.from_numpy(objective), torch.from_numpy(gradient), torch.from_numpy(fisher)


def score_groups(
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
    """Score groups of patches against windows; arguments and result as in `groups_naive.score`."""
    arguments = (counts, dark, extent, which, values, slopes, row, column, photons, background)
    if counts.device.type != "cpu":
        return groups_naive.score(*arguments, gain)
    from . import groups_numba_cpu

    arrays: list[Any] = [*(a.contiguous().numpy() for a in arguments), float(gain)]
    objective, gradient, fisher = groups_numba_cpu.score(*arrays)
    return torch.from_numpy(objective), torch.from_numpy(gradient), torch.from_numpy(fisher)
