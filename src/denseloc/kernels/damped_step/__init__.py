"""Damped Newton steps of many small problems at once.

`naive.py` defines the operation; `numba_cpu.py` is the fast one, imported (and compiled) at first use. The function here takes the fast one
for tensors on the CPU and the definition elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import naive


def damped_step(fisher: Tensor, gradient: Tensor, damping: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the steps; arguments and result as in `naive.damped_step`."""
    if fisher.device.type != "cpu":
        return naive.damped_step(fisher, gradient, damping, fixed)
    from . import numba_cpu

    step, gain = numba_cpu.damped_step(*(a.contiguous().numpy() for a in (fisher, gradient, damping, fixed)))
    return torch.from_numpy(step), torch.from_numpy(gain)
