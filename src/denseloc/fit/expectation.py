"""What a PSF lets one expect: bounds over depth for a lone emitter, and among neighbours at a density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import DocumentError
from ..optics import PSF
from .fisher import Bounds, crlb

PHASES = 5  # places in a pixel along each axis over which a lone emitter's bound is averaged
FOUND_NM = 100.0  # lateral bound up to which an emitter counts as found: 2.5 of it are the 250 nm of the challenge's rule
APART = 3.0  # distance of two emitters, in standard deviations of what a joint fit says of it, from which on they are told apart
MOST_NEIGHBOURS = 150  # on average in a scene
MOST_OF_LIGHT = 0.95  # of the emitter
AROUND_PX = 2  # around the emitter's light
PRIOR_NM = 1000.0  # to which positions are known beforehand
SERVES = 0.8
"""Share of the emitters that must be found for a density to be called served."""


@dataclass(frozen=True)
class Light:
    """Photons of an emitter, background per pixel, and the camera's noise."""

    photons: float
    background: float
    excess: float = 1.0
    noise_variance: float = 0.0


@dataclass(frozen=True, eq=False)
class DepthBounds:
    """Bounds of a lone emitter in nm over depth; z is None for a PSF that tells none."""

    depths_nm: np.ndarray
    x_nm: np.ndarray
    y_nm: np.ndarray
    z_nm: np.ndarray | None


@dataclass(frozen=True)
class CrowdBounds:
    """What is left of the bounds among neighbours.

    Args:
        density_per_um2: emitters per frame.
        found: share of the emitters whose joint lateral bound is below 100 nm and that lie apart from each neighbour by three standard
            deviations of their difference in a joint fit; about the Jaccard index of an ideal method that sees single frames.
        lateral_nm, axial_nm: root mean square bound of those (axial None without depth).
    """

    density_per_um2: float
    found: float
    lateral_nm: float
    axial_nm: float | None


@dataclass(frozen=True, eq=False)
class Expectation:
    """What one PSF lets one expect.

    Args:
        name: of its file.
        psf: built.
        z_range_nm: depths at which the emitters lie.
        over_depth: bounds of a lone emitter.
        in_crowd: by rising density.
    """

    name: str
    psf: PSF
    z_range_nm: tuple[float, float]
    over_depth: DepthBounds
    in_crowd: tuple[CrowdBounds, ...]

    @property
    def alone_nm(self) -> tuple[float, float | None]:
        """Root mean square over depth of a lone emitter's lateral (mean of x and y) and axial bound."""
        lateral = np.sqrt((self.over_depth.x_nm**2 + self.over_depth.y_nm**2) / 2)
        axial = self.over_depth.z_nm
        return _rms(lateral), None if axial is None else _rms(axial)

    @property
    def served_per_um2(self) -> float:
        """Density up to which 80 % of the emitters can be found, interpolated in log density; 0 or infinity beyond what was reckoned."""
        densities = np.log([crowd.density_per_um2 for crowd in self.in_crowd])
        found = np.array([crowd.found for crowd in self.in_crowd])
        below = np.nonzero(found < SERVES)[0]
        if not len(below):
            return float("inf")
        last = int(below[0])
        if last == 0:
            return 0.0
        share = (found[last - 1] - SERVES) / (found[last - 1] - found[last])
        return float(np.exp(densities[last - 1] + share * (densities[last] - densities[last - 1])))

    def to_json(self) -> dict[str, Any]:
        """Give all numbers as plain JSON values."""
        depth = self.over_depth
        lateral, axial = self.alone_nm
        return {
            "psf": self.name,
            "z_range_nm": list(self.z_range_nm),
            "alone": {"lateral_nm": lateral, "axial_nm": axial},
            "over_depth": {
                "z_nm": depth.depths_nm.tolist(),
                "crlb_x_nm": depth.x_nm.tolist(),
                "crlb_y_nm": depth.y_nm.tolist(),
                "crlb_z_nm": None if depth.z_nm is None else depth.z_nm.tolist(),
            },
            "in_crowd": [vars(crowd) for crowd in self.in_crowd],
            "served_per_um2": self.served_per_um2 if np.isfinite(self.served_per_um2) else None,
        }


def bounds_over_depth(psf: PSF, depths_nm: np.ndarray, light: Light) -> DepthBounds:
    """Give the bounds of a lone emitter at some depths, as root mean square over its place in the pixel."""
    y_nm, x_nm = psf.pixel_size_nm
    side = psf.roi_px
    steps = (np.arange(PHASES) + 0.5) / PHASES
    places = [((side // 2 + u) * x_nm, (side // 2 + v) * y_nm) for u in steps for v in steps]
    positions = torch.tensor([[(x, y, float(z))] for z in depths_nm for x, y in places], dtype=torch.float64)
    found = crlb(
        psf,
        positions,
        light.photons,
        light.background,
        window_px=(side, side),
        excess=light.excess,
        noise_variance=light.noise_variance,
    )

    def mean(sigma: torch.Tensor) -> np.ndarray:
        return np.asarray(sigma[:, 0].reshape(len(depths_nm), -1).square().mean(1).sqrt().numpy())

    return DepthBounds(np.asarray(depths_nm), mean(found.x_nm), mean(found.y_nm), None if found.z_nm is None else mean(found.z_nm))


def bounds_in_crowd(
    psf: PSF,
    density_per_um2: float,
    z_range_nm: tuple[float, float],
    light: Light,
    generator: torch.Generator,
    scenes: int = 150,
) -> CrowdBounds:
    """Give the bounds of emitters that are fitted together with all their neighbours.

    Scenes are squares around one emitter, somewhat larger than its light; the neighbours are uniform in the square and in depth, and equally
    bright. Positions are known beforehand to 1 um, so that two that cannot be told apart leave the rest alone.

    Args:
        psf: any PSF.
        density_per_um2: emitters per um^2 and frame.
        z_range_nm: depths at which they lie.
        light: photons, background, camera.
        generator: draws the scenes.
        scenes: how many.

    Raises:
        DocumentError: more neighbours than can be fitted together.
    """
    pixel = torch.tensor(psf.pixel_size_nm[::-1], dtype=torch.float64)
    side = _window_px(psf, z_range_nm) + 2 * AROUND_PX
    size = side * pixel
    low, high = z_range_nm
    mean = density_per_um2 * float(size.prod()) * 1e-6
    if mean > MOST_NEIGHBOURS:
        raise DocumentError(
            f"{density_per_um2:g} emitters per um^2 put {mean:.0f} neighbours into {side} px around an emitter; expected "
            f"{MOST_NEIGHBOURS} at most: give a lower density, or a smaller range of depths"
        )
    counts = torch.poisson(torch.full((scenes,), mean), generator=generator).long()
    lateral, axial, alone = [], [], []
    for count in counts.unique().tolist():
        n = int((counts == count).sum())
        xy = torch.rand(n, count + 1, 2, generator=generator, dtype=torch.float64) * size
        xy[:, 0] = (side // 2 + torch.rand(n, 2, generator=generator, dtype=torch.float64)) * pixel
        z = low + (high - low) * torch.rand(n, count + 1, 1, generator=generator, dtype=torch.float64)
        found = crlb(
            psf,
            torch.cat((xy, z), 2),
            light.photons,
            light.background,
            window_px=(side, side),
            excess=light.excess,
            noise_variance=light.noise_variance,
            prior_nm=PRIOR_NM,
        )
        lateral.append(torch.hypot(found.x_nm[:, 0], found.y_nm[:, 0]) / np.sqrt(2))
        alone.append(_apart(torch.cat((xy, z), 2), found))
        if found.z_nm is not None:
            axial.append(found.z_nm[:, 0])
    sigma = torch.cat(lateral)
    good = (sigma < FOUND_NM) & torch.cat(alone)

    def rms(values: torch.Tensor) -> float:
        return float(values[good].square().mean().sqrt()) if bool(good.any()) else float("inf")

    return CrowdBounds(density_per_um2, float(good.double().mean()), rms(sigma), rms(torch.cat(axial)) if axial else None)


@torch.no_grad()
def _window_px(psf: PSF, z_range_nm: tuple[float, float]) -> int:
    """Give the odd side of the square that holds most of the light that the patch holds, at any depth."""
    z = torch.linspace(*z_range_nm, 15)
    light = psf(torch.zeros(len(z), 2), z).clamp(min=0).sum(1)
    total, half = light.sum((1, 2)), psf.roi_px // 2
    for reach in range(2, half):
        middle = slice(half - reach, half + reach + 1)
        if bool((light[:, middle, middle].sum((1, 2)) >= MOST_OF_LIGHT * total).all()):
            return 2 * reach + 1
    return psf.roi_px


def _apart(positions_nm: torch.Tensor, found: Bounds) -> torch.Tensor:
    """Say which first emitters of scenes (n, e, 3) can be told from all others."""
    n, e, _ = positions_nm.shape
    size = 2 if found.z_nm is None else 3
    each = size + 1  # parameters of an emitter: its position and its photons
    near = torch.ones(n, dtype=torch.bool)
    first = slice(0, size)
    for k in range(1, e):
        other = slice(k * each, k * each + size)
        c = found.covariance
        spread = c[:, first, first] + c[:, other, other] - c[:, first, other] - c[:, other, first]
        step = (positions_nm[:, k] - positions_nm[:, 0])[:, :size, None]
        known = torch.isfinite(spread).all((1, 2))
        spread = torch.where(known[:, None, None], spread, torch.eye(size, dtype=spread.dtype))
        distance = (step.mT @ torch.linalg.solve(spread, step))[:, 0, 0]
        near &= known & (distance > APART**2)
    return near


def _rms(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else float("inf")
