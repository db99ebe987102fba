"""Bake any PSF into a spline: a table of nodes, fine enough for a given error, that is drawn at the same speed whatever made it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DocumentError
from .base import PSF
from .spline import SplineSettings

MOST_NODES_PER_PX, MOST_PLANES = 8, 600
MARGIN_PX = 2
"""Pixels by which the nodes reach beyond the patch, so that the spline's end lies outside of it."""
SHALLOW = 1e-6
"""Slope, as a fraction of the peak per nm or per pixel, below which slopes are not told apart."""


@dataclass(frozen=True)
class BakeError:
    """How far a spline lies from its PSF, as fractions of the greatest value.

    Attributes:
        value: of the photon fractions.
        slope: of the derivatives by x, y and z, the worst of the three.
    """

    value: float
    slope: float

    def over(self, tolerance: float) -> float:
        """Give how many times the tolerance (ten times the tolerance for slopes) it is."""
        return max(self.value, self.slope / 10) / tolerance


def bake(psf: PSF, z_min_nm: float, z_max_nm: float, tolerance: float = 1e-3, seed: int = 1) -> SplineSettings:
    """Sample a PSF on nodes and find how many it takes.

    Nodes are added (across the image and along depth, wherever the fault is) until, at random places, the photon fractions are within
    ``tolerance`` of the peak and the slopes within ten times that of the greatest slope. A PSF with residual maps has slopes that jump
    at the nodes of the maps, and may have no spline that is close enough.

    Args:
        psf: any PSF; its present parameters count.
        z_min_nm, z_max_nm: depths between which the spline is to hold.
        tolerance: greatest error as a fraction of the peak.
        seed: of the random places.

    Raises:
        DocumentError: the depths are out of order, or no spline within the limits is close enough.
    """
    if not z_min_nm < z_max_nm:
        raise DocumentError(f"depths {z_min_nm:g} .. {z_max_nm:g} nm: z_min must be below z_max")
    generator = torch.Generator().manual_seed(seed)
    nodes, planes = 1, max(5, math.ceil((z_max_nm - z_min_nm) / 200) + 1)
    while nodes <= MOST_NODES_PER_PX and planes <= MOST_PLANES:
        settings = _sampled(psf, z_min_nm, z_max_nm, nodes, planes)
        spline = settings.build(psf.pixel_size_nm).to(_device(psf))
        places = _places(psf, settings, z_max_nm, generator, 50)
        few = _error(psf, spline, *places["anywhere"]).over(tolerance)
        if few <= 1 and _error(psf, spline, *_places(psf, settings, z_max_nm, generator, 400)["anywhere"]).over(tolerance) <= 1:
            return settings
        across = _error(psf, spline, *places["on planes"]).over(tolerance)
        along = _error(psf, spline, *places["on nodes"]).over(tolerance)
        nodes += across > 0.5 * min(1.0, along) or along <= 0.5
        planes = 2 * planes - 1 if along > 0.5 else planes
    raise DocumentError(
        f"no spline with up to {MOST_NODES_PER_PX} nodes per pixel and {MOST_PLANES} planes is within {tolerance:g} of the PSF from "
        f"{z_min_nm:g} to {z_max_nm:g} nm; take a shorter range or a greater tolerance"
    )


def bake_error(psf: PSF, spline: PSF, z_min_nm: float, z_max_nm: float, n: int = 200, seed: int = 2) -> BakeError:
    """Compare a spline with the PSF that it stands for, at random places.

    Args:
        psf: what is right.
        spline: what is checked.
        z_min_nm, z_max_nm: depths between which they are compared.
        n: number of places.
        seed: of the places.
    """
    generator = torch.Generator().manual_seed(seed)
    offset = torch.rand(n, 2, generator=generator) - 0.5
    z = z_min_nm + (z_max_nm - z_min_nm) * torch.rand(n, generator=generator)
    return _error(psf, spline, offset, z)


@torch.no_grad()
def _sampled(psf: PSF, z_min_nm: float, z_max_nm: float, nodes_per_px: int, planes: int) -> SplineSettings:
    """Sample (planes, nz, s k + 1, s k + 1) nodes; node m lies ``m / s - k / 2`` px from the emitter, k pixels wide."""
    model = psf.described()
    if model.residual_maps is None:
        psf = model.model_copy(update={"roi_px": psf.roi_px + 2 * MARGIN_PX}).build(psf.pixel_size_nm).to(_device(psf))
    z = torch.linspace(z_min_nm, z_max_nm, planes, device=_device(psf))
    s, k = nodes_per_px, psf.roi_px
    samples = torch.zeros(psf.planes, planes, s * k + 1, s * k + 1)
    for row in range(s + 1):
        for column in range(s + 1):
            offset = torch.tensor([0.5 - column / s, 0.5 - row / s], device=z.device).expand(planes, 2)
            patches = psf(offset, z).transpose(0, 1).cpu()
            samples[:, :, row : row + s * k : s, column : column + s * k : s] = patches
    return SplineSettings.from_samples(
        samples.numpy(),
        z_min_nm=z_min_nm,
        z_step_nm=(z_max_nm - z_min_nm) / (planes - 1),
        nodes_per_px=nodes_per_px,
        roi_px=model.roi_px,
        pixel_size_nm=psf.pixel_size_nm,
    )


def _places(
    psf: PSF, settings: SplineSettings, z_max_nm: float, generator: torch.Generator, n: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Draw n places each: anywhere, at the depth of a plane, and on a node in x and y."""
    s = settings.nodes_per_px
    offset = torch.rand(n, 2, generator=generator) - 0.5
    planes = round((z_max_nm - settings.z_min_nm) / settings.z_step_nm)
    z = settings.z_min_nm + settings.z_step_nm * planes * torch.rand(n, generator=generator)
    on_plane = settings.z_min_nm + settings.z_step_nm * torch.randint(1, planes, (n,), generator=generator)
    on_node = 0.5 - torch.randint(0, s + 1, (n, 2), generator=generator) / s
    device = _device(psf)
    pairs = {"anywhere": (offset, z), "on planes": (offset, on_plane), "on nodes": (on_node, z)}
    return {name: (at.to(device), depth.to(device)) for name, (at, depth) in pairs.items()}


@torch.no_grad()
def _error(psf: PSF, spline: PSF, offset_px: Tensor, z_nm: Tensor) -> BakeError:
    expected, expected_slope = psf.with_derivatives(offset_px, z_nm)
    found, found_slope = spline.with_derivatives(offset_px, z_nm)
    axes = (0, *range(2, expected_slope.ndim))
    least = SHALLOW * float(expected.max())  # what does not change with depth has no slope to compare with
    top = expected_slope.abs().amax(axes).clamp(min=least)
    slope = (found_slope - expected_slope).abs().amax(axes) / top
    return BakeError(float((found - expected).abs().max() / expected.max()), float(slope.max()))


def _device(psf: PSF) -> torch.device:
    return next(psf.parameters()).device
