"""Spline patches on a CUDA device: one program an emitter and plane, one lane a pixel, the weights of the axes shared by all lanes."""

# A kernel takes pointers and numbers for which Python has no types, and its compiler reads the annotations.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _weight(f, k: tl.constexpr):
    """Weigh the k-th of the four nodes around a place at fraction f."""
    g = 1.0 - f
    if k == 0:
        return g * g * g / 6.0
    if k == 1:
        return 2.0 / 3.0 - 0.5 * f * f * (2.0 - f)
    if k == 2:
        return 2.0 / 3.0 - 0.5 * g * g * (2.0 - g)
    return f * f * f / 6.0


@triton.jit
def _slope(f, k: tl.constexpr):
    """Differentiate `_weight` by f."""
    g = 1.0 - f
    if k == 0:
        return -0.5 * g * g
    if k == 1:
        return f * (1.5 * f - 2.0)
    if k == 2:
        return -g * (1.5 * g - 2.0)
    return 0.5 * f * f


@triton.jit
def _draw(
    coefficients,
    dx_px,
    dy_px,
    level,
    values,
    derivatives,
    planes,
    nz,
    ny,
    nx,
    size: tl.constexpr,
    s: tl.constexpr,
    slopes: tl.constexpr,
    lanes: tl.constexpr,
):
    """Draw one emitter in one plane; taps beyond the raster read 0, in z the level is held at the ends of its range."""
    emitter, plane = tl.program_id(0).to(tl.int64), tl.program_id(1)
    lane = tl.arange(0, lanes)
    row, column, drawn = lane // size, lane % size, lane < size * size

    # a place far outside or not a number must not become an index: it is held just beyond the raster, where all is 0
    far_y, far_x = 0.5 * ny + s * size + 4.0, 0.5 * nx + s * size + 4.0
    dx, dy, given = tl.load(dx_px + emitter), tl.load(dy_px + emitter), tl.load(level + emitter)
    lost = (dx != dx) | (dy != dy) | (given != given)
    at_y = tl.where(lost, 0.0, tl.minimum(tl.maximum(-s * dy, -far_y), far_y)) + 0.5 * (ny - 1) - s * (size // 2)
    at_x = tl.where(lost, 0.0, tl.minimum(tl.maximum(-s * dx, -far_x), far_x)) + 0.5 * (nx - 1) - s * (size // 2)
    held = tl.where(lost, 0.0, tl.minimum(tl.maximum(given, 0.0), nz - 3.0))
    z0 = tl.minimum(held.to(tl.int32), nz - 4)
    fy, fx, fz = at_y - tl.floor(at_y), at_x - tl.floor(at_x), held - z0
    y0 = tl.floor(at_y).to(tl.int32) - 1 + s * row
    x0 = tl.floor(at_x).to(tl.int32) - 1 + s * column
    inside_z = tl.where(held == given, 1.0, 0.0)

    nothing_yet = tl.zeros([lanes], values.dtype.element_ty)
    value, by_x, by_y, by_z = nothing_yet, nothing_yet, nothing_yet, nothing_yet
    for ky in tl.static_range(4):
        on_y = drawn & (y0 + ky >= 0) & (y0 + ky < ny)
        for kx in tl.static_range(4):
            there = on_y & (x0 + kx >= 0) & (x0 + kx < nx)
            node = coefficients + ((plane * nz + z0) * ny + y0 + ky) * nx + x0 + kx
            in_z, slope_z = nothing_yet, nothing_yet
            for kz in tl.static_range(4):
                c = tl.load(node + kz * ny * nx, mask=there, other=0.0)
                in_z += _weight(fz, kz) * c
                if slopes:
                    slope_z += _slope(fz, kz) * c
            value += _weight(fy, ky) * _weight(fx, kx) * in_z
            if slopes:
                by_x -= s * _weight(fy, ky) * _slope(fx, kx) * in_z
                by_y -= s * _slope(fy, ky) * _weight(fx, kx) * in_z
                by_z += _weight(fy, ky) * _weight(fx, kx) * slope_z * inside_z

    out = values + (emitter * planes + plane) * size * size + lane
    tl.store(out, tl.where(lost, float("nan"), value), mask=drawn)
    if slopes:
        out = derivatives + (emitter * 3 * planes + plane) * size * size + lane
        step = planes * size * size
        tl.store(out, tl.where(lost, float("nan"), by_x), mask=drawn)
        tl.store(out + step, tl.where(lost, float("nan"), by_y), mask=drawn)
        tl.store(out + 2 * step, tl.where(lost, float("nan"), by_z), mask=drawn)


def patches(coefficients: Tensor, dx_px: Tensor, dy_px: Tensor, level: Tensor, size: int, nodes_per_px: int) -> Tensor:
    """Draw emitters as `naive.patches` does, without gradient and without a scale."""
    return _launch(coefficients, dx_px, dy_px, level, size, nodes_per_px, slopes=False)[0]


def with_derivatives(
    coefficients: Tensor, dx_px: Tensor, dy_px: Tensor, level: Tensor, size: int, nodes_per_px: int
) -> tuple[Tensor, Tensor]:
    """Draw emitters as `naive.with_derivatives` does."""
    return _launch(coefficients, dx_px, dy_px, level, size, nodes_per_px, slopes=True)


def _launch(
    coefficients: Tensor, dx_px: Tensor, dy_px: Tensor, level: Tensor, size: int, nodes_per_px: int, *, slopes: bool
) -> tuple[Tensor, Tensor]:
    if coefficients.shape[1] == 1:  # one depth becomes four alike, held beyond its range, where nothing depends on the level
        coefficients, level = coefficients.expand(-1, 4, -1, -1), torch.full_like(level, -1.0)
    planes, nz, ny, nx = coefficients.shape
    values = dx_px.new_empty(len(dx_px), planes, size, size)
    derivatives = dx_px.new_empty((len(dx_px), 3, planes, size, size) if slopes else (0,))
    if len(dx_px):
        given = [t.detach().contiguous() for t in (coefficients, dx_px, dy_px, level)]
        lanes = triton.next_power_of_2(size * size)
        _draw[len(dx_px), planes](
            *given,
            values,
            derivatives,
            planes,
            nz,
            ny,
            nx,
            size,
            nodes_per_px,
            slopes,
            lanes,
            num_warps=max(1, min(8, lanes // 64)),
        )
    return values, derivatives
