"""Where a fit to beads begins: the formula's parameters from the moments of the light, or the averaged beads themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..errors import CalibrationError
from ..optics import (
    PSF,
    AstigmaticSettings,
    DoubleHelixSettings,
    GaussianSettings,
    MultiplaneSettings,
    PSFSettings,
)
from ..optics.spline import SplineSettings
from ..units import PixelSize
from .bead_fit import BeadFit

SPLINE_STEP_NM = (
    125.0  # distance of the nodes of a spline in z: the light of a lens changes over 400 nm and more; nearer nodes learn noise
)


@dataclass(frozen=True, eq=False)
class MeanBead:
    """The beads' mean as fractions of their photons: z_nm (depths,), light (depths, planes, k, k), background taken away."""

    z_nm: np.ndarray
    light: Tensor
    pixel_size_nm: PixelSize

    @property
    def roi_px(self) -> int:
        """Width of the patch."""
        return int(self.light.shape[-1])


def mean_bead(fit: BeadFit, pixel_size_nm: PixelSize) -> MeanBead:
    """Average the beads, each moved to the middle of the middle pixel and to the common zero of depth.

    The shift of each bead is undone with cubic splines, so the mean is not blurred by the beads' places in their pixels and heights.
    """
    p, z = fit.patches, fit.depths()
    light = (p.values - fit.background[p.bead][:, :, None, None]) / fit.log_photons.exp()[p.bead][:, None, None, None]
    depths = p.z_nm.numpy()
    moved = np.empty(light.shape, np.float32)
    for bead in range(p.n_beads):
        mine = (p.bead == bead).numpy()
        x, y = fit.offset_px[bead].tolist()
        step = float(np.diff(depths[mine]).mean()) if mine.sum() > 1 else 1.0
        by = (float(fit.heights[bead]) / step, 0, -y, -x)
        moved[mine] = ndimage.shift(light.numpy()[mine], by, order=3, mode="nearest")
    mean = np.stack([moved[depths == depth].mean(0) for depth in z])
    return MeanBead(z, torch.from_numpy(mean), pixel_size_nm)


def moments(light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Second moments (depths,) of images (depths, k, k): mean size^2, and the components (xx - yy) / 2 and xy of the elongation, in px^2."""
    k = light.shape[-1]
    at = torch.arange(k, dtype=torch.float32) - k // 2
    light = light.clamp(min=0) * torch.exp(-(at**2 + at[:, None] ** 2) / (2 * (k / 4) ** 2))
    total = light.sum((1, 2)).clamp(min=1e-9)
    x, y = (light.sum(1) * at).sum(1) / total, (light.sum(2) * at).sum(1) / total
    xx = (light.sum(1) * at**2).sum(1) / total - x**2
    yy = (light.sum(2) * at**2).sum(1) / total - y**2
    xy = (light * at * at[:, None]).sum((1, 2)) / total - x * y
    return (xx + yy) / 2, (xx - yy) / 2, xy


def best_focus(bead: MeanBead) -> float:
    """Give the depth at which the light of all planes together is most compact."""
    size = moments(bead.light.sum(1))[0].numpy()
    smooth = ndimage.gaussian_filter1d(size, max(1.0, len(size) / 40), mode="nearest")
    return float(bead.z_nm[int(smooth.argmin())])


def gaussian(bead: MeanBead) -> PSFSettings:
    """Begin with a round Gaussian."""
    return GaussianSettings(width_nm=1.2 * bead.pixel_size_nm[1], depth_nm=400.0, focus_nm=best_focus(bead), roi_px=bead.roi_px)


def astigmatic(bead: MeanBead) -> PSFSettings:
    """Begin with the axis along which the elongation changes.

    The elongation (along, across) runs along a line through 0 as z passes the two foci; its direction is twice the angle.
    """
    z = torch.from_numpy(bead.z_nm)
    size, along, across = moments(bead.light[:, 0])
    focus = float(z[size.argmin()])
    spread = torch.stack((along, across), -1)
    direction = torch.linalg.eigh(spread.T @ spread).eigenvectors[:, -1]
    angle = 0.5 * math.degrees(math.atan2(float(direction[1]), float(direction[0])))
    angle = angle if abs(angle) > 5 and abs(abs(angle) - 90) > 5 else 0.0
    turned = torch.tensor([math.cos(math.radians(2 * angle)), math.sin(math.radians(2 * angle))])
    slope = float(
        (spread @ turned * (z - focus)).sum()
    )  # above 0: wide along the first axis at large z, which is in focus at small z
    gap = -250.0 if slope > 0 else 250.0
    return AstigmaticSettings(
        width_nm=1.2 * bead.pixel_size_nm[1],
        focus_a_nm=focus + gap,
        focus_b_nm=focus - gap,
        depth_nm=350.0,
        angle_deg=angle,
        roi_px=bead.roi_px,
        quartic=0.05,
    )


def double_helix(bead: MeanBead) -> PSFSettings:
    """Begin with the two lobes' mean distance and their turn with z."""
    z = bead.z_nm
    _, along, across = moments(bead.light[:, 0])
    twice = np.unwrap(np.arctan2(across.numpy(), along.numpy()))
    inner = np.abs(z - z.mean()) < 0.8 * np.abs(z - z.mean()).max()
    turn, start = np.polyfit(z[inner] * 1e-3, np.degrees(twice[inner]) / 2, 1)
    strength = torch.sqrt(along**2 + across**2).median()
    return DoubleHelixSettings(
        width_nm=1.5 * bead.pixel_size_nm[1],
        separation_nm=2 * math.sqrt(2 * float(strength)) * bead.pixel_size_nm[1],
        turn_deg_per_um=float(turn),
        angle_deg=float(start),
        depth_nm=800.0,
        roi_px=bead.roi_px,
    )


def multiplane(bead: MeanBead) -> PSFSettings:
    """Begin with each plane's own best focus and share of the light."""
    planes = bead.light.shape[1]
    focus = [float(bead.z_nm[int(moments(bead.light[:, i])[0].argmin())]) for i in range(planes)]
    share = bead.light.sum((0, 2, 3)).clamp(min=1e-6)
    return MultiplaneSettings(
        width_nm=1.2 * bead.pixel_size_nm[1],
        plane_focus_nm=tuple(focus),
        depth_nm=400.0,
        transmission=tuple((share / share.sum()).tolist()),
        roi_px=bead.roi_px,
    )


def spline(bead: MeanBead) -> PSFSettings:
    """Begin with a smooth spline through the averaged beads; one node a pixel, nodes in z not nearer than the planes."""
    z, (depths, planes, k, _) = bead.z_nm, bead.light.shape
    intervals = max(1, round((z[-1] - z[0]) / max(SPLINE_STEP_NM, float(np.diff(z).mean()))))
    nodes = np.linspace(z[0], z[-1], intervals + 1)
    step = float(nodes[1] - nodes[0])
    # each node takes the planes around it, weighted by a parabola's kernel that keeps slopes and curvatures
    design = [np.where(np.abs(z - node) < 1.5 * step, 1 - ((z - node) / (1.5 * step)) ** 2, 0.0) for node in nodes]
    flat = bead.light.reshape(depths, -1).double().numpy()
    samples = np.stack([_local_parabola(z - node, w, flat) for node, w in zip(nodes, design, strict=True)])
    samples = np.moveaxis(samples.reshape(len(nodes), planes, k, k), 1, 0).astype(np.float32)
    return SplineSettings.from_samples(
        samples, z_min_nm=float(nodes[0]), z_step_nm=step, nodes_per_px=1, roi_px=k - 2, pixel_size_nm=bead.pixel_size_nm
    )


def _local_parabola(distance: np.ndarray, weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Value at distance 0 of the weighted parabola (line, constant where there are few planes) through ``values`` (depths, ...)."""
    used = weight > 0
    degree = min(2, max(0, int(used.sum()) - 2))
    powers = np.vander(distance[used], degree + 1, increasing=True)
    root = np.sqrt(weight[used])[:, None]
    return np.asarray(np.linalg.lstsq(powers * root, values[used] * root, rcond=None)[0][0])


FORMULAS: dict[str, Callable[[MeanBead], PSFSettings]] = {
    "gaussian": gaussian,
    "astigmatic": astigmatic,
    "double_helix": double_helix,
    "multiplane": multiplane,
}


def begin(kind: str, bead: MeanBead) -> PSF:
    """Make the PSF with which the fit of a kind begins.

    Raises:
        CalibrationError: no fit is known for the kind.
    """
    known = {**FORMULAS, "spline": spline}
    if kind not in known:
        raise CalibrationError(f"no fit for a PSF of kind '{kind}'; known: {', '.join(known)}")
    return known[kind](bead).build(bead.pixel_size_nm)
