"""A PSF without a formula: a cubic spline in x, y and z through measured or computed values."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from ..description import Array
from ..errors import CalibrationError, DocumentError
from ..kernels import spline_patch
from ..units import PixelSize, pixel_size_pair
from .base import PSF, PSFSettings

# From the weights of the four nodes around a place to the powers 0 .. 3 of its fraction.
_POWERS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6


class SplineSettings(PSFSettings):
    """``[psf] kind = "spline"``: B-spline coefficients on a raster of nodes, for one size of camera pixel.

    A value of the spline is what a camera pixel centred there receives, as a fraction of the photons. The emitter stands in the middle
    of the raster. x, y: one coefficient a node, ``nodes_per_px`` nodes to a camera pixel; beyond the raster the spline falls to 0 within
    two nodes. z: one coefficient a node and one more beyond each end; ``z_min_nm`` is the depth of the first node, that is of the second
    plane of coefficients. The range ends at the last but one, and beyond it the value stays what it is at the end. A single plane of
    coefficients is a PSF that is the same at all depths.
    """

    kind: Literal["spline"] = "spline"
    coefficients: Array = Field(
        description="B-spline coefficients ([planes,] depths, rows, columns); one depth, or the nodes and 2 more"
    )
    z_min_nm: float = Field(description="depth of the first node, which is the second plane of coefficients")
    z_step_nm: float = Field(gt=0, description="distance of two nodes in z")
    nodes_per_px: int = Field(1, ge=1, le=8, description="nodes per camera pixel in x and y")
    pixel_size_nm: PixelSize | None = Field(None, description="camera pixel for which the spline was made, one number or (y, x)")

    @field_validator("pixel_size_nm", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return pixel_size_pair(value) if isinstance(value, (int, float)) else value

    @field_validator("coefficients")
    @classmethod
    def _four_axes(cls, value: np.ndarray) -> np.ndarray:
        return value[None] if value.ndim == 3 else value

    @model_validator(mode="after")
    def _possible(self) -> SplineSettings:
        shape = self.coefficients.shape
        if len(shape) != 4 or min(shape) < 1 or shape[1] in (2, 3) or min(shape[2:]) < 4:
            raise ValueError(
                f"coefficients of shape {shape}: expected ([planes,] depths, rows, columns) with 1 or at least 4 depths and 4 or more nodes "
                "in rows and columns"
            )
        if not np.isfinite(self.coefficients).all():
            raise ValueError("some coefficients are not numbers; give finite ones")
        if self.pixel_size_nm is not None and min(self.pixel_size_nm) <= 0:
            raise ValueError(f"pixel_size_nm must be above 0 (found {self.pixel_size_nm})")
        if self.residual_maps is not None:
            raise ValueError("a spline carries no residual_maps; leave them out and put what they correct into the coefficients")
        return self

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart, so that a localizer is to find z."""
        return self.coefficients.shape[1] > 1

    @property
    def z_range_nm(self) -> tuple[float, float] | None:
        """Depths between which the spline is known, or None for a single depth."""
        if not self.tells_depth:
            return None
        return self.z_min_nm, self.z_min_nm + (self.coefficients.shape[1] - 3) * self.z_step_nm

    def width_in_focus_nm(self) -> float:
        """Give the size in focus as a Gaussian standard deviation: along the narrowest direction at the depth where it is narrowest.

        Second moments are taken under a Gaussian window that is fitted to the light at the same time, so that tails do not count, and
        the pixel's share of them is taken off.

        Raises:
            DocumentError: the pixel size is not known.
        """
        if self.pixel_size_nm is None:
            raise DocumentError(
                "the spline does not say for which camera pixel it was made; add pixel_size_nm to the section [psf]"
            )
        step = np.array(self.pixel_size_nm) / self.nodes_per_px
        variance = min(float(windowed_variance(depth, step)) for plane in self.samples() for depth in plane)
        pixel = self.pixel_size_nm[0] * self.pixel_size_nm[1]
        return math.sqrt(max(variance - pixel / 12, pixel / 100))

    def build(self, pixel_size_nm: PixelSize) -> SplinePSF:
        """Make the PSF for a pixel size, which must be the spline's own to 1 % where it has one.

        Raises:
            DocumentError: another pixel size, or residual maps.
        """
        return SplinePSF(self, pixel_size_nm)

    # ----------------------------------------------------------------------------------------------------------- other forms

    @classmethod
    def from_samples(
        cls,
        samples: np.ndarray,
        z_min_nm: float,
        z_step_nm: float,
        nodes_per_px: int,
        roi_px: int,
        smoothing_z: float = 0.0,
        *,
        pixel_size_nm: float | PixelSize | None = None,
        smoothing_xy: float = 0.0,
    ) -> SplineSettings:
        """Lay a spline through values at its nodes, or, with smoothing, near them.

        The spline ends with zero curvature in x and y (natural) and, where there are at least four depths, as a single cubic over the
        last two steps in z (not-a-knot). Smoothing along an axis minimises ``sum (spline - sample)^2 + smoothing sum (second differences
        of the coefficients)^2``; it halves waves about ``2 pi smoothing^(1/4)`` nodes long and lets longer ones pass.

        Source: Unser, IEEE Signal Processing Magazine 16(6):22 (1999); Eilers and Marx, Statistical Science 11:89 (1996).

        Args:
            samples: ([planes,] nz, ny, nx) photon fractions on a camera pixel centred at each node; the emitter is in the middle.
            z_min_nm: depth of the first sample.
            z_step_nm: distance of two samples in z.
            nodes_per_px: samples per camera pixel.
            roi_px: odd number of pixels across a patch.
            smoothing_z: 0 for exact interpolation.
            pixel_size_nm: camera pixel, one number or (y, x); without it the size in focus cannot be told in nm.
            smoothing_xy: as smoothing_z, for rows and columns.

        Raises:
            CalibrationError: not three or four axes, fewer than 2 x 2 samples in a plane, or values that are not finite.
        """
        values = np.asarray(samples, dtype=np.float64)
        values = values[None] if values.ndim == 3 else values
        if values.ndim != 4 or min(values.shape) < 1 or min(values.shape[2:]) < 2 or not np.isfinite(values).all():
            raise CalibrationError(
                f"samples of shape {np.shape(samples)}: expected finite values on ([planes,] depths, rows, columns), 2 x 2 at least"
            )
        _, nz, ny, nx = values.shape
        along_y, along_x = interpolation(ny, 2, smoothing_xy), interpolation(nx, 2, smoothing_xy)
        coefficients = np.einsum("pkyx,jy,ix->pkji", values, along_y, along_x, optimize=True)
        if nz > 1:
            coefficients = np.einsum("pkyx,lk->plyx", coefficients, interpolation(nz, 4, smoothing_z))
        return cls(
            coefficients=coefficients,
            z_min_nm=z_min_nm,
            z_step_nm=z_step_nm,
            nodes_per_px=nodes_per_px,
            roi_px=roi_px,
            pixel_size_nm=None if pixel_size_nm is None else pixel_size_pair(pixel_size_nm),
        )

    def samples(self) -> np.ndarray:
        """Give the values at the inner nodes: (planes, depths, rows - 2, columns - 2), without those beyond the ends of z."""
        values: np.ndarray = self.coefficients.astype(np.float64)
        for axis in (2, 3, *((1,) if self.tells_depth else ())):
            values = np.moveaxis(values, axis, -1)
            values = np.moveaxis((values[..., :-2] + 4 * values[..., 1:-1] + values[..., 2:]) / 6, -1, axis)
        return values

    def polynomials(self) -> np.ndarray:
        """Give the spline as one cubic polynomial a voxel: (planes, depths, rows, columns, 4, 4, 4).

        The last axes count the powers of z, y and x, the fractions 0 .. 1 inside the voxel. The voxel (k, j, i) begins at the inner node
        (k, j, i), so that there are 3 fewer than coefficients along each axis (one layer for a single depth).
        """
        values: np.ndarray = self.coefficients.astype(np.float64)
        if not self.tells_depth:
            values = np.repeat(values, 4, axis=1)
        for axis in (1, 2, 3):
            values = np.lib.stride_tricks.sliding_window_view(values, 4, axis=axis)
        found: np.ndarray = np.einsum("pkjizyx,cz,by,ax->pkjicba", values, _POWERS, _POWERS, _POWERS, optimize=True)
        if not self.tells_depth:
            found[..., 1:, :, :] = 0
        return found

    @classmethod
    def from_polynomials(
        cls,
        polynomials: np.ndarray,
        z_min_nm: float,
        z_step_nm: float,
        nodes_per_px: int,
        roi_px: int,
        *,
        pixel_size_nm: float | PixelSize | None = None,
        tolerance: float = 1e-3,
    ) -> SplineSettings:
        """Turn polynomials, laid out as by `polynomials`, into coefficients; they must join with equal slopes and curvatures.

        Raises:
            CalibrationError: another shape, or polynomials that the spline misses by more than ``tolerance`` of the largest value.
        """
        given = np.asarray(polynomials, dtype=np.float64)
        if given.ndim != 7 or given.shape[-3:] != (4, 4, 4) or not np.isfinite(given).all():
            raise CalibrationError(
                f"polynomials of shape {given.shape}: expected finite values on (planes, depths, rows, columns, 4, 4, 4)"
            )
        taps = np.linalg.inv(_POWERS)
        values = np.einsum("pkjicba,zc,yb,xa->pkjizyx", given, taps, taps, taps, optimize=True)
        for axis in (3, 2, 1):
            values = _joined(values, axis)
        if given.shape[1] == 1 and not given[..., 1:, :, :].any():
            values = values[:, :1]
        made = cls(
            coefficients=values,
            z_min_nm=z_min_nm,
            z_step_nm=z_step_nm,
            nodes_per_px=nodes_per_px,
            roi_px=roi_px,
            pixel_size_nm=None if pixel_size_nm is None else pixel_size_pair(pixel_size_nm),
        )
        miss = np.abs(made.polynomials() - given).sum((-3, -2, -1)).max() / max(np.abs(given[..., 0, 0, 0]).max(), 1e-30)
        if miss > tolerance:
            raise CalibrationError(
                f"the polynomials do not join smoothly: one spline misses them by {miss:.2g} of the peak, expected {tolerance:.2g} at most; "
                "sample them at their nodes and use from_samples"
            )
        return made


class SplinePSF(PSF):
    """``sum_kji C(k, j, i) B(z - k) B(y - j) B(x - i)`` with the cubic B-spline B; twice continuously differentiable within its range.

    Source: Babcock and Zhuang, Scientific Reports 7:552 (2017), and Li et al., Nature Methods 15:367 (2018), for splines as PSFs; here in
    the form of B-splines, whose coefficients are 64 times fewer than those of the polynomials.
    """

    settings: SplineSettings

    def __init__(self, settings: SplineSettings, pixel_size_nm: PixelSize) -> None:
        if settings.residual_maps is not None:
            raise DocumentError("a spline carries no residual_maps; leave them out and put what they correct into the coefficients")
        own = settings.pixel_size_nm or pixel_size_nm
        if any(abs(a / b - 1) > 0.01 for a, b in zip(pixel_size_nm, own, strict=True)):
            made, asked = (" x ".join(f"{side:.4g}" for side in sides) for sides in (own, pixel_size_nm))
            raise DocumentError(
                f"the spline was made for pixels of {made} nm, found {asked} nm; give the pixel size of the beads, or calibrate anew"
            )
        super().__init__(settings, pixel_size_nm)
        self.planes = settings.coefficients.shape[0]
        self.z_range_nm = settings.z_range_nm
        self.coefficients = nn.Parameter(torch.from_numpy(settings.coefficients.copy()))
        self._sorted: tuple[Tensor, int, Any] | None = None

    def forward(self, offset_px: Tensor, z_nm: Tensor, scale: Tensor | None = None, place_nm: Tensor | None = None) -> Tensor:
        """Draw emitters; arguments and result as for every PSF."""
        dx, dy = offset_px.unbind(-1)
        return self._draw(dx, dy, z_nm, scale)

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the spline: (n, planes, roi, roi)."""
        return self._draw(dx_px, dy_px, z_nm, scale)

    def with_derivatives(self, offset_px: Tensor, z_nm: Tensor, place_nm: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw emitters together with the derivatives by position; arguments and results as for every PSF."""
        dx, dy = offset_px.unbind(-1)
        with torch.no_grad():
            c, dx, dy, level = self._place(dx, dy, z_nm)
            size, s = self.roi_px, self.settings.nodes_per_px
            values, derivatives = spline_patch.with_derivatives(c, dx, dy, level, size, s, self._phases(c))
            derivatives[:, 2] /= self.settings.z_step_nm
        return values, derivatives

    def values(self) -> dict[str, Any]:
        """Give the present coefficients under their name in the document, and the pixel size for which they hold."""
        own = self.settings.pixel_size_nm or tuple(self.pixel_size_nm)
        return {"coefficients": self.coefficients.detach().cpu().float().numpy().copy(), "pixel_size_nm": own}

    def _draw(self, dx: Tensor, dy: Tensor, z_nm: Tensor, scale: Tensor | None) -> Tensor:
        c, dx, dy, level = self._place(dx, dy, z_nm)
        m = None if scale is None else scale.to(c.dtype)
        phases = None if m is not None or spline_patch.forwards(c, dx, dy, level) else self._phases(c)
        return spline_patch.patches(c, dx, dy, level, self.roi_px, self.settings.nodes_per_px, m, phases)

    def _place(self, dx: Tensor, dy: Tensor, z_nm: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give coefficients, dx, dy and level in one dtype."""
        dtype = torch.promote_types(self.coefficients.dtype, dx.dtype)
        level = (z_nm - self.settings.z_min_nm) / self.settings.z_step_nm
        return self.coefficients.to(dtype), dx.to(dtype), dy.to(dtype), level.to(dtype)

    def _phases(self, c: Tensor) -> Any:
        """Give the coefficients sorted for the CPU; anew only when they have changed."""
        if c.device.type != "cpu" or c.is_inference():
            return None
        if self._sorted is not None:
            held, version, phases = self._sorted
            if held.data_ptr() == c.data_ptr() and held.dtype == c.dtype and version == c._version:
                return phases
        phases = spline_patch.sort_phases(c, self.roi_px, self.settings.nodes_per_px)
        self._sorted = (c.detach(), c._version, phases)  # to hold the tensor keeps its address from being given to another
        return phases


# --------------------------------------------------------------------------------------------------------------------- arithmetic


def interpolation(n: int, order: int, smoothing: float) -> np.ndarray:
    """Make the matrix (n + 2, n) from samples to coefficients; the ends go on as polynomials of degree ``order - 1`` (less for small n)."""
    order = min(order, n)
    ends = np.zeros((n + 2, n))
    ends[1:-1] = np.eye(n)
    onward = [-((-1) ** k) * math.comb(order, k) for k in range(1, order + 1)]
    ends[0, :order] = onward
    ends[-1, n - order :] = onward[::-1]
    at_nodes = (ends[:-2] + 4 * ends[1:-1] + ends[2:]) / 6
    if smoothing == 0:
        return ends @ np.linalg.inv(at_nodes)
    bend = np.diff(ends, 2, axis=0)
    return ends @ np.linalg.solve(at_nodes.T @ at_nodes + smoothing * bend.T @ bend, at_nodes.T)


def _joined(values: np.ndarray, axis: int) -> np.ndarray:
    """Average over the voxels what each says of its four nodes (last axis) along ``axis``; takes the last axis away."""
    voxels = values.shape[axis]
    shape = [*values.shape[:axis], voxels + 3, *values.shape[axis + 1 : -1]]
    total, count = np.zeros(shape), np.zeros(voxels + 3)
    for k in range(4):
        at = [slice(None)] * axis + [slice(k, k + voxels)]
        total[tuple(at)] += values[..., k]
        count[k : k + voxels] += 1
    return total / count.reshape([-1] + [1] * (len(shape) - axis - 1))


def windowed_variance(image: np.ndarray, step_nm: np.ndarray, most_rounds: int = 40) -> float:
    """Give the smaller variance (nm^2) of the elliptic Gaussian whose windowed moments are those of the image (rows, columns).

    Under a window of the light's own shape a Gaussian keeps half of its variance, so that each round takes twice what it measures.

    Source: Bernstein and Jarvis, Astronomical Journal 123:583 (2002), for adaptive moments.
    """
    y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(image.shape, step_nm, strict=True))
    light = np.clip(image, 0, None)
    row, column = np.unravel_index(np.argmax(light), light.shape)
    least = (np.min(step_nm) / 4) ** 2
    centre, spread = np.array([y[row], x[column]]), np.diag([(np.ptp(y) / 6) ** 2, (np.ptp(x) / 6) ** 2]) + least * np.eye(2)
    for _ in range(most_rounds):
        a, b, c = np.linalg.inv(spread)[[0, 0, 1], [0, 1, 1]]
        v, u = y[:, None] - centre[0], x[None, :] - centre[1]
        seen = light * np.exp(-0.5 * (a * v * v + 2 * b * v * u + c * u * u))
        total = max(float(seen.sum()), 1e-30)
        shift = np.array([(seen * v).sum(), (seen * u).sum()]) / total
        yy, xx, xy = (seen * v * v).sum() / total, (seen * u * u).sum() / total, (seen * v * u).sum() / total
        moments = np.array([[yy, xy], [xy, xx]]) - np.outer(shift, shift)
        sides, axes = np.linalg.eigh(2 * moments)
        before, centre, spread = spread, centre + shift, axes * np.maximum(sides, least) @ axes.T
        if np.abs(spread - before).max() < 1e-4 * np.trace(spread):
            break
    return float(np.linalg.eigvalsh(spread)[0])
