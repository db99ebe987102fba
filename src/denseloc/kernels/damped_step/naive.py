"""The definition of the damped step: ``(H + l diag H) s = g`` in the parameters that may move."""

from __future__ import annotations

import torch
from torch import Tensor


def damped_step(fisher: Tensor, gradient: Tensor, damping: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the steps.

    Args:
        fisher: (n, p, p) symmetric, float64.
        gradient: (n, p).
        damping: (n,) l.
        fixed: (n, p) parameters that stay where they are.

    Returns:
        steps (n, p), 0 where fixed, and (n,) ``g s``: twice the gain in log-likelihood that a quadratic would make. Where the matrix is not
        positive definite the step is 0 and the gain NaN.
    """
    free = (~fixed).to(fisher.dtype)
    diagonal = fisher.diagonal(dim1=1, dim2=2)
    scale = torch.where(fixed | (diagonal <= 0), torch.ones_like(diagonal), diagonal).rsqrt()
    scaled = fisher * (scale * free)[:, :, None] * (scale * free)[:, None, :]
    scaled = scaled + torch.diag_embed(damping[:, None] * free * (diagonal > 0) + (1 - free))
    factor, info = torch.linalg.cholesky_ex(scaled)
    good = info == 0
    factor = torch.where(good[:, None, None], factor, torch.eye(fisher.shape[1], dtype=fisher.dtype, device=fisher.device))
    step = torch.cholesky_solve((gradient * scale * free)[:, :, None], factor)[:, :, 0] * scale * free
    gain = (gradient * step).sum(1)
    return torch.where(good[:, None], step, torch.zeros_like(step)), torch.where(good, gain, torch.full_like(gain, float("nan")))
