"""A spot of a fused fit, compiled: an aligned Gaussian or a spline, drawn into a window and scored against its pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..kernels.spline_patch.numba_cpu import Phases
from ..kernels.spline_patch.numba_cpu import draw as draw_plane
from ..kernels.spot_score.elementary import fast, merged
from ..kernels.spot_score.numba_cpu import add_plane, draw_aligned, mirror, place

MADE_OF = "bc0c1df4546e"
"""Digest of the imported files: compiled code is kept until this file changes, and a test says when it must."""

LIGHT = 3  # row of the pixels that holds photons, beside those of the score
FAR_PX = 1e6  # positions beyond are no positions

NOTHING, DEPTH, WIDTH, WIDTHS = 0, 1, 2, 3
"""What is found besides x and y: nothing, the depth, a factor on both widths, one on each."""


class Shape(NamedTuple):
    """A PSF.

    Args:
        size: pixels across the patch of a spline; 0 for an aligned Gaussian.
        widths: (2, 5) of the Gaussian along x and y: width in px, focus, 1 / depth, A, B of `optics.base.gaussian_width`.
        z_min_nm, z_step_nm: of the spline; one that is the same at all depths has its first at infinity.
        phases: its coefficients.
    """

    size: int
    widths: np.ndarray
    z_min_nm: float
    z_step_nm: float
    phases: Phases


class Task(NamedTuple):
    """What is asked: the third coordinate, backgrounds, the starts that are followed, and when to stop."""

    gain: float
    third: int
    lights: int
    tries: int
    tolerance: float
    max_iterations: int
    is_amplified: bool


class Scratch(NamedTuple):
    """Room for one spot."""

    window: tuple[int, int]
    pixels: np.ndarray
    terms: np.ndarray
    work: np.ndarray
    sums: np.ndarray
    lines: np.ndarray
    patch: np.ndarray
    spline: tuple[np.ndarray, np.ndarray, np.ndarray]
    matrix: np.ndarray


# ------------------------------------------------------------------------------------------------------------------------ drawing


@merged
def draw(shape: Shape, at: np.ndarray, third: int, plane: int, d: int, scratch: Scratch) -> None:
    """Draw one plane of a spot into the terms: its d slopes (or none), and the fraction behind them."""
    h, w = scratch.window
    if shape.size == 0:
        _draw_gaussian(shape.widths, at, third, h, w, d, scratch.lines, scratch.terms)
    else:
        z_nm = at[2] if third == DEPTH else 0.0
        level, slope = (z_nm - shape.z_min_nm) / shape.z_step_nm, 1.0 / shape.z_step_nm
        _draw_spline(shape.phases, shape.size, at, plane, level, slope, h, w, d, scratch.spline, scratch.patch, scratch.terms)


@fast
def _draw_gaussian(
    widths: np.ndarray, at: np.ndarray, third: int, h: int, w: int, d: int, lines: np.ndarray, terms: np.ndarray
) -> None:
    position, width, growth = lines[6], lines[7], lines[8]
    for axis in range(2):
        position[axis], base = at[axis], widths[axis, 0]
        if third >= WIDTH:
            growth[axis] = base
            width[axis] = base * at[2 + axis * (third == WIDTHS)]
        else:
            inverse_depth, a, b = widths[axis, 2], widths[axis, 3], widths[axis, 4]
            u = ((at[2] if third == DEPTH else 0.0) - widths[axis, 1]) * inverse_depth
            square = 1.0 + u * u * (1.0 + u * (a + u * b))
            root = math.sqrt(max(square, 0.05))
            width[axis] = base * root
            growth[axis] = base * inverse_depth * u * (2.0 + u * (3.0 * a + u * 4.0 * b)) / (2.0 * root) if square > 0.05 else 0.0
    draw_aligned(position, width, growth, h, w, lines, d, terms)


@fast
def _draw_spline(
    phases: Phases,
    size: int,
    at: np.ndarray,
    plane: int,
    level: float,
    slope: float,
    h: int,
    w: int,
    d: int,
    scratch: tuple[np.ndarray, np.ndarray, np.ndarray],
    patch: np.ndarray,
    terms: np.ndarray,
) -> None:
    column, row, area = round(at[0]), round(at[1]), size * size
    to_x, to_z = area if d > 0 else -1, 3 * area if d > 2 else -1
    draw_plane(phases, plane, at[0] - column, at[1] - row, level, size, scratch, patch, 0, patch, to_x, 2 * to_x, to_z)
    if d > 2:
        by_depth = patch[3 * area :]
        for i in range(np.uint64(area)):
            by_depth[i] *= slope
    for a in range(d):
        place(patch[(a + 1) * area : (a + 2) * area], row, column, h, w, terms[a])
    place(patch[:area], row, column, h, w, terms[d])


@merged
def is_place(at: np.ndarray, d: int) -> bool:
    """Whether the first d parameters can be drawn at."""
    good = True
    for k in range(d):
        good = good and abs(at[k]) < FAR_PX
    return good


@merged
def score(shape: Shape, task: Task, at: np.ndarray, scratch: Scratch, gradient: np.ndarray, fisher: np.ndarray) -> float:
    """Give the objective at parameters (p,), and write the gradient and the Fisher matrix."""
    gradient[:], fisher[:] = 0.0, 0.0
    d = len(at) - 1 - task.lights
    if not is_place(at, d):
        return math.nan
    objective, bright = 0.0, task.gain * at[d]
    for q in range(len(scratch.pixels)):
        light = q if task.lights > 1 else 0
        draw(shape, at, task.third, q, d, scratch)
        level = task.gain * at[d + 1 + light]
        objective += add_plane(
            scratch.pixels[q], scratch.terms, d, bright, task.gain, level, light, scratch.work, scratch.sums, gradient, fisher
        )
    mirror(fisher)
    return objective
