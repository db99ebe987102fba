"""Damped steps: the fast file is the definition, and the definition solves the equations."""

from __future__ import annotations

import pytest
import torch

from denseloc.kernels.damped_step import damped_step, naive, numba_cpu


def problems(p: int, n: int = 40) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(p)
    root = torch.randn(n, p + 3, p, generator=generator, dtype=torch.float64)
    size = 10.0 ** torch.linspace(-3, 4, p, dtype=torch.float64)  # nm beside photons
    fisher = (root.transpose(1, 2) @ root) * size[:, None] * size
    fisher[0] = 0.0
    fisher[1] = -fisher[1]
    fixed = torch.rand(n, p, generator=generator) < 0.2
    fixed[2], fixed[:2] = True, False
    damping = 10.0 ** torch.linspace(-6, 4, n, dtype=torch.float64)
    return fisher, torch.randn(n, p, generator=generator, dtype=torch.float64) * size, damping, fixed


@pytest.mark.parametrize("p", [1, 4, 5, 8])
def test_fast_is_the_definition(p: int) -> None:
    arguments = problems(p)
    expected = naive.damped_step(*arguments)
    found = numba_cpu.damped_step(*(a.numpy() for a in arguments))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-8, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(damped_step(*arguments), expected, rtol=1e-8, atol=1e-12, equal_nan=True)


def test_the_step_solves_the_damped_equations() -> None:
    fisher, gradient, damping, fixed = problems(5)
    step, gain = naive.damped_step(fisher, gradient, damping, fixed)
    assert torch.isnan(gain[:2]).all()
    assert (step[:2] == 0).all()
    assert (step[fixed] == 0).all()
    damped = fisher + damping[:, None, None] * torch.diag_embed(fisher.diagonal(dim1=1, dim2=2))
    left = torch.einsum("nij,nj->ni", damped, step)
    torch.testing.assert_close(left[2:][~fixed[2:]], gradient[2:][~fixed[2:]], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(gain[2:], (step * gradient).sum(1)[2:])
