"""Patches of a tricubic spline around emitters, with derivatives by position and gradients in the spline itself.

`naive.py` defines the operation; `numba_cpu.py` is the fast one for the CPU and `triton_gpu.py` that for CUDA, each imported (and
compiled) at first use.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import once_differentiable

from . import naive

if TYPE_CHECKING:
    from .numba_cpu import Phases


def sort_phases(coefficients: Tensor, size: int, nodes_per_px: int) -> Phases:
    """Sort coefficients on the CPU for drawing, so that a spline that is drawn many times is sorted once."""
    from . import numba_cpu

    return numba_cpu.sort_phases(_array(coefficients), size, nodes_per_px)


def patches(
    coefficients: Tensor,
    dx_px: Tensor,
    dy_px: Tensor,
    level: Tensor,
    size: int,
    nodes_per_px: int,
    scale: Tensor | None = None,
    phases: Phases | None = None,
) -> Tensor:
    """Draw emitters as `naive.patches` does, fast; can be differentiated once, backwards or forwards, by every argument that is a tensor.

    Args:
        coefficients: (planes, nz, ny, nx), of the same dtype and on the same device as the positions.
        dx_px, dy_px: (n,) emitter relative to the centre of the middle pixel; fast up to 1 px.
        level: (n,) depth in steps of the nodes in z, 0 at the second plane of coefficients.
        size: odd number of pixels across a patch.
        nodes_per_px: nodes per camera pixel.
        scale: (n,) factor on all widths, or None.
        phases: what `sort_phases` gave for these very coefficients, or None.

    Returns:
        (n, planes, size, size), indexed (row, column).
    """
    tensors = (coefficients, dx_px, dy_px, level, *(() if scale is None else (scale,)))
    asked = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if forwards(*tensors):
        return naive.patches(coefficients, dx_px, dy_px, level, size, nodes_per_px, scale)
    if scale is not None:
        if asked or not _fits_numba(coefficients):
            return naive.patches(coefficients, dx_px, dy_px, level, size, nodes_per_px, scale)
        return _scaled(coefficients, dx_px, dy_px, level, size, nodes_per_px, scale)
    if asked:
        drawn: Tensor = _Patches.apply(coefficients, dx_px, dy_px, level, size, nodes_per_px, phases)
        return drawn
    return _values(coefficients, dx_px, dy_px, level, size, nodes_per_px, phases)


def with_derivatives(
    coefficients: Tensor,
    dx_px: Tensor,
    dy_px: Tensor,
    level: Tensor,
    size: int,
    nodes_per_px: int,
    phases: Phases | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw emitters as `naive.with_derivatives` does, fast; arguments as for `patches`, the results carry no gradient."""
    if not _fits_numba(coefficients):
        if _fits_triton(coefficients):
            from . import triton_gpu

            return triton_gpu.with_derivatives(coefficients, dx_px, dy_px, level, size, nodes_per_px)
        return naive.with_derivatives(coefficients, dx_px, dy_px, level, size, nodes_per_px)
    from . import numba_cpu

    known = sort_phases(coefficients, size, nodes_per_px) if phases is None else phases
    place = _place(coefficients, dx_px, dy_px, level)
    values, derivatives = dx_px.new_empty(_shape(coefficients, dx_px, size)), dx_px.new_empty(_shape(coefficients, dx_px, size, 3))
    far = torch.from_numpy(numba_cpu.far(*place))
    if len(far) == 0:
        numba_cpu.values_and_derivatives(known, *place, values.numpy(), derivatives.numpy())
        return values, derivatives
    near = _others(far, len(dx_px))
    inner = with_derivatives(coefficients, dx_px[near], dy_px[near], level[near], size, nodes_per_px, known)
    outer = naive.with_derivatives(coefficients, dx_px[far], dy_px[far], level[far], size, nodes_per_px)
    for whole, part_near, part_far in zip((values, derivatives), inner, outer, strict=True):
        whole[near], whole[far] = part_near, part_far
    return values, derivatives


def _values(c: Tensor, dx: Tensor, dy: Tensor, level: Tensor, size: int, s: int, phases: Phases | None) -> Tensor:
    if not _fits_numba(c):
        if _fits_triton(c):
            from . import triton_gpu

            return triton_gpu.patches(c, dx, dy, level, size, s)
        return naive.patches(c, dx, dy, level, size, s)
    from . import numba_cpu

    known = sort_phases(c, size, s) if phases is None else phases
    place = _place(c, dx, dy, level)
    values = dx.new_empty(_shape(c, dx, size))
    far = torch.from_numpy(numba_cpu.far(*place))
    if len(far) == 0:
        numba_cpu.values(known, *place, values.numpy())
        return values
    near = _others(far, len(dx))
    values[near] = _values(c, dx[near], dy[near], level[near], size, s, known)
    values[far] = naive.patches(c, dx[far], dy[far], level[far], size, s)
    return values


def _scaled(c: Tensor, dx: Tensor, dy: Tensor, level: Tensor, size: int, s: int, scale: Tensor) -> Tensor:
    from . import numba_cpu

    deep = c.expand(-1, 4, -1, -1) if c.shape[1] == 1 else c
    values = dx.new_empty(_shape(c, dx, size))
    numba_cpu.scaled(_array(deep), *_place(c, dx, dy, level), s, _array(scale), values.numpy())
    return values


class _Patches(torch.autograd.Function):
    """The drawing with its gradient: derivatives by position are drawn along, those by the coefficients are added up afterwards."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, dx: Tensor, dy: Tensor, level: Tensor, size: int, s: int, phases: Phases | None) -> Tensor:
        ctx.size, ctx.nodes_per_px, ctx.phases = size, s, phases
        if not any(ctx.needs_input_grad[1:4]):
            ctx.save_for_backward(c, dx, dy, level)
            return _values(c, dx, dy, level, size, s, phases)
        values, derivatives = with_derivatives(c, dx, dy, level, size, s, phases)
        ctx.save_for_backward(c, dx, dy, level, derivatives)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        c, dx, dy, level, *drawn = ctx.saved_tensors
        by_position: tuple[Tensor | None, ...] = (None, None, None)
        if drawn:
            sums = torch.einsum("npyx,napyx->an", grad, drawn[0])
            by_position = tuple(g if asked else None for g, asked in zip(sums, ctx.needs_input_grad[1:4], strict=True))
        by_spline = None
        if ctx.needs_input_grad[0]:
            by_spline = _by_coefficients(c, dx, dy, level, grad, ctx.nodes_per_px, ctx.phases)
        return by_spline, *by_position, None, None, None


def _by_coefficients(c: Tensor, dx: Tensor, dy: Tensor, level: Tensor, grad: Tensor, s: int, phases: Phases | None) -> Tensor:
    """Give the gradient by the coefficients: the adjoint of the drawing."""
    if not _fits_numba(c):
        with torch.enable_grad():
            leaf = c.detach().requires_grad_()
            drawn = naive.patches(leaf, dx.detach(), dy.detach(), level.detach(), grad.shape[-1], s)
        return torch.autograd.grad(drawn, leaf, grad)[0]
    from . import numba_cpu

    known = sort_phases(c, grad.shape[-1], s) if phases is None else phases
    place = _place(c, dx, dy, level)
    far = torch.from_numpy(numba_cpu.far(*place))
    if len(far):
        near = _others(far, len(dx))
        with torch.enable_grad():
            leaf = c.detach().requires_grad_()
            drawn = naive.patches(leaf, dx.detach()[far], dy.detach()[far], level.detach()[far], grad.shape[-1], s)
        outer = torch.autograd.grad(drawn, leaf, grad[far])[0]
        return outer + _by_coefficients(c, dx[near], dy[near], level[near], grad[near], s, known)
    total = np.zeros_like(known.values)
    numba_cpu.adjoint(known, *place, _array(grad), total)
    return torch.from_numpy(numba_cpu.unsort_phases(total, known, tuple(c.shape)))


# ------------------------------------------------------------------------------------------------------------------------ helpers


def forwards(*tensors: Tensor) -> bool:
    """Whether they are being differentiated forwards, as by ``torch.func.jvp``."""
    return any(unpack_dual(t).tangent is not None for t in tensors)


def _fits_numba(coefficients: Tensor) -> bool:
    return coefficients.device.type == "cpu" and coefficients.dtype in (torch.float32, torch.float64)


def _fits_triton(coefficients: Tensor) -> bool:
    return coefficients.device.type == "cuda" and coefficients.dtype in (torch.float32, torch.float64) and _HAS_TRITON


_HAS_TRITON = importlib.util.find_spec("triton") is not None


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _place(c: Tensor, dx: Tensor, dy: Tensor, level: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give positions as arrays; a spline of one depth is held beyond its range, where nothing depends on the level."""
    return _array(dx), _array(dy), _array(level if c.shape[1] > 1 else torch.full_like(level, -1.0))


def _shape(c: Tensor, dx: Tensor, size: int, *axes: int) -> tuple[int, ...]:
    return (len(dx), *axes, c.shape[0], size, size)


def _others(rows: Tensor, n: int) -> Tensor:
    kept = torch.ones(n, dtype=torch.bool)
    kept[rows] = False
    return kept.nonzero()[:, 0]
