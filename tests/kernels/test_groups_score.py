"""The score of groups: the fast file is the definition, one emitter is a spot, and the definition is the derivative of the likelihood."""

from __future__ import annotations

import pytest
import torch

from denseloc.kernels import spot_score
from denseloc.kernels.spot_score import groups_naive as naive
from denseloc.kernels.spot_score import groups_numba_cpu as numba_cpu
from denseloc.kernels.spot_score import score_groups as score

PARTS = ("counts", "dark", "extent", "which", "values", "slopes", "row", "column", "photons", "background")


def problem(planes: int, h: int, w: int, e: int, d: int, size: int, kinds: int, m: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(e + 7 * size)
    counts = torch.poisson(torch.full((6, planes, h, w), 4.0), generator=generator).double() - 0.5
    counts[3, 0, :2], counts[5] = float("nan"), float("nan")
    row, column = torch.randint(-4, 14, (2, m, e), generator=generator)
    row[0, 0], column[1, -1] = -1000, 1000  # no light in the window
    background = torch.rand(m, planes * kinds, generator=generator).double()
    background[:, ::kinds] += 3.0
    return {
        "counts": counts,
        "dark": torch.rand(6, planes, h, w, generator=generator).double(),
        "extent": torch.stack(
            (torch.randint(1, h + 1, (6,), generator=generator), torch.randint(1, w + 1, (6,), generator=generator)), 1
        ),
        "which": torch.randint(0, 6, (m,), generator=generator),
        "values": torch.rand(m, e, planes, size, size, generator=generator).double() * 0.05,
        "slopes": torch.randn(m, e, d, planes, size, size, generator=generator).double() * 0.02,
        "row": row,
        "column": column,
        "photons": torch.rand(m, e, generator=generator).double() * 300,
        "background": background,
    }


@pytest.mark.parametrize("shape", [(1, 9, 9), (2, 7, 12), (3, 5, 4)])
@pytest.mark.parametrize(("e", "d", "size", "kinds"), [(1, 3, 7, 1), (3, 2, 3, 3), (4, 3, 15, 1), (2, 3, 5, 3)])
def test_fast_score_is_the_definition(shape: tuple[int, int, int], e: int, d: int, size: int, kinds: int) -> None:
    given = problem(*shape, e, d, size, kinds)
    for blank in (given["dark"], given["dark"][:1]):
        for dtype in (torch.float64, torch.float32):
            one = {k: v.to(dtype) if k in ("counts", "values", "slopes") else v for k, v in given.items()}
            arguments = [(one | {"dark": blank.to(dtype)})[k] for k in PARTS]
            expected = naive.score(*arguments, 0.5)
            found = numba_cpu.score(*(a.numpy() for a in arguments), 0.5)
            for mine, other in zip(found, expected, strict=True):
                torch.testing.assert_close(torch.from_numpy(mine), other, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(score(*arguments, 0.5), expected, rtol=1e-9, atol=1e-9)


def test_one_emitter_is_a_spot() -> None:
    given = problem(2, 9, 11, 1, 3, 7, 1)
    given["extent"][:] = torch.tensor((9, 11))
    flat = {k: v[:, 0] if k in ("values", "slopes", "row", "column", "photons") else v for k, v in given.items() if k != "extent"}
    torch.testing.assert_close(naive.score(*given.values(), 0.7), spot_score.naive.score(*flat.values(), 0.7))


def test_gradient_is_the_derivative_of_the_objective() -> None:
    given = problem(2, 9, 8, 2, 2, 7, 3)
    photons, background = (given[k].clone().requires_grad_() for k in ("photons", "background"))
    objective, gradient, _ = naive.score(*(given | {"photons": photons, "background": background}).values(), 0.7)
    by_photons, by_background = torch.autograd.grad(objective.sum(), (photons, background))
    torch.testing.assert_close(gradient[:, 2:6:3], -by_photons)
    torch.testing.assert_close(gradient[:, 6:], -by_background)
