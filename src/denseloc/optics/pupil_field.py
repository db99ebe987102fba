"""The light of a molecule in the objective's pupil, scalar or vectorial, through the interface between medium and immersion.

Fields go as ``exp(-i w t)``, so a longer way adds phase. The objective lies at negative z: an emitter at a larger height is farther from
it. Sines are those in the immersion medium, ``s = NA r / n_imm`` at the radius r of the pupil (in units of the aperture); the transverse
wave vector is the same on both sides. Beyond the critical angle the cosine in the medium is imaginary: supercritical light, which
dies off with the height of the emitter, comes out of the same formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Aperture:
    """The pupil on a square grid from edge to edge of the round aperture.

    Attributes:
        places: (P,) coordinates of rows and of columns in units of the radius, -1 .. 1.
        coverage: (P, P) part of each cell that lies in the aperture.
        radii: (u,) the distinct radii of the cells in the aperture, at most 1.
        which: (P, P) index of each cell's radius.
    """

    places: np.ndarray
    coverage: np.ndarray
    radii: np.ndarray
    which: np.ndarray

    @staticmethod
    def of(size: int) -> Aperture:
        """Make the grid of ``size`` cells across."""
        odd = 2 * np.arange(size) + 1 - size
        places = odd / size
        fine = (np.arange(size * 64) + 0.5) * 2 / (size * 64) - 1  # columns are cut finely, along rows the overlap is exact
        half = np.sqrt(1 - fine**2)
        low, high = places[:, None] - 1 / size, places[:, None] + 1 / size
        overlap = (np.minimum(high, half) - np.maximum(low, -half)).clip(0) * size / 2
        coverage = overlap.reshape(size, size, 64).mean(-1)
        squares = odd[:, None] ** 2 + odd**2
        inside = np.unique(np.append(squares[coverage > 0].clip(max=size**2), size**2))
        which = np.searchsorted(inside, squares.clip(max=size**2))
        return Aperture(places, coverage, np.sqrt(inside) / size, which)


@dataclass(frozen=True)
class Radial:
    """What depends on the radius alone.

    Attributes:
        path_medium: (u,) complex: optical path (nm) to the interface per nm of the emitter's height, ``n_med cos``.
        path_immersion: (u,) optical path per nm by which the focal plane lies above the interface, ``n_imm cos``.
        along, across: (u,) complex amplitudes for p and s polarisation, with the aplanatic factor of emission.
        cos_medium, sin_medium: (u,) complex, and real (above 1 beyond the critical angle).
    """

    path_medium: np.ndarray
    path_immersion: np.ndarray
    along: np.ndarray
    across: np.ndarray
    cos_medium: np.ndarray
    sin_medium: np.ndarray

    @staticmethod
    def of(radii: np.ndarray, numerical_aperture: float, n_immersion: float, n_medium: float) -> Radial:
        """Evaluate at radii of the pupil, in units of the aperture.

        The far field of a dipole below an interface carries ``t cos_imm^(1/2) / cos_med``; with Fresnel's ``t = 2 n_med cos_med / ...``
        the cosine cancels, and nothing diverges at the critical angle. For equal indices the amplitude is ``cos^(-1/2)``: the light in
        a cone of emission ends on a part of the pupil that is smaller by the cosine.
        Source: Hellen and Axelrod, J. Opt. Soc. Am. B 4 (1987) 337; Stallinga and Rieger, Opt. Express 18 (2010) 24461.
        """
        sine = radii * numerical_aperture / n_immersion
        cos_imm = np.sqrt(1 - sine**2)
        sin_med = sine * n_immersion / n_medium
        cos_med = np.sqrt((1 - sin_med**2).astype(complex))
        across = 2 * n_medium / (n_medium * cos_med + n_immersion * cos_imm)
        along = 2 * n_medium / (n_medium * cos_imm + n_immersion * cos_med)
        bend = np.sqrt(cos_imm)
        return Radial(n_medium * cos_med, n_immersion * cos_imm, bend * along, bend * across, cos_med, sin_med)


def scalar_amplitudes(radial: Radial, aperture: Aperture) -> np.ndarray:
    """Give the one field (1, P, P) of the scalar model: the mean of both polarisations."""
    return ((radial.along + radial.across) / 2)[aperture.which][None]


def vectorial_amplitudes(radial: Radial, aperture: Aperture) -> np.ndarray:
    """Give the six fields (6, P, P) whose intensities add up to that of a freely turning dipole.

    Each pair of a dipole's axis (x, y, z) and a polarisation on the camera (x, y) has one: the parts along the plane of incidence,
    ``p = along (cos_med cos f, cos_med sin f, -sin_med)``, and across it, ``s = across (-sin f, cos f, 0)``, seen from the camera as
    ``x: p cos f - s sin f`` and ``y: p sin f + s cos f``.

    Source: Mortensen et al., Nat. Methods 7 (2010) 377; Stallinga and Rieger 2010.
    """
    x, y = np.meshgrid(aperture.places, aperture.places)
    radius = np.hypot(x, y)
    cos, sin = (np.divide(v, radius, out=np.full_like(v, fill), where=radius > 0) for v, fill in ((x, 1.0), (y, 0.0)))
    along, across, c, s = (v[aperture.which] for v in (radial.along, radial.across, radial.cos_medium, radial.sin_medium))
    p = [along * c * cos, along * c * sin, -along * s]
    t = [-across * sin, across * cos, 0 * across]
    return np.stack([v for a, b in zip(p, t, strict=True) for v in (a * cos - b * sin, a * sin + b * cos)])


def focus_ratio(radial: Radial, energy: np.ndarray) -> float:
    """Give the position of the focal plane per height of the emitter for which the emitter is in focus.

    The plane that leaves the least rms of the wavefront, weighed by energy, over the part of the pupil within the critical angle.

    Args:
        radial: the optics.
        energy: (u,) energy at each radius.
    """
    inside = radial.cos_medium.real > 0
    weight = energy[inside] / energy[inside].sum()
    medium, immersion = radial.path_medium.real[inside], radial.path_immersion[inside]
    centred = immersion - (weight * immersion).sum()
    return float((weight * centred * medium).sum() / (weight * centred**2).sum())


def known_depths(radial: Radial, energy: np.ndarray, depth_nm: float, focus_nm: float, reach_nm: float) -> tuple[float, float]:
    """Give the depths z between which rays land within ``reach_nm`` of the centre.

    With half of the period of a sampled pupil's image as reach, the phase changes by less than pi from cell to cell.

    Args:
        radial: the optics.
        energy: (u,) energy at each radius; the outermost 10 % within the critical angle do not count.
        depth_nm: height of an emitter at z = 0.
        focus_nm: position of the focal plane.
        reach_nm: farthest place.

    Returns:
        (lowest, highest) z in nm; lowest > highest where there are none.
    """
    below = np.cumsum(energy * (radial.cos_medium.real > 0))
    inside = (below <= 0.9 * below[-1]) & (radial.cos_medium.real > 0)
    inside[0] = True
    steep = radial.sin_medium[inside] / radial.cos_medium.real[inside]
    back = np.sqrt(np.maximum(radial.path_immersion[0] ** 2 / radial.path_immersion[inside] ** 2 - 1, 0)) * focus_nm
    steep = np.maximum(steep, 1e-9)
    return float(np.max((back - reach_nm) / steep) - depth_nm), float(np.min((back + reach_nm) / steep) - depth_nm)


def intensity(field: Tensor, to_rows: Tensor, to_columns: Tensor) -> Tensor:
    """Take pupil fields to the camera and add up their intensities.

    A discrete Fourier transform at chosen places is a product with one matrix an axis: any pixel size, no padding.

    Args:
        field: (n, fields, P, P) complex.
        to_rows: (rows, P) or (n, 1, rows, P) complex.
        to_columns: the same for columns.

    Returns:
        (n, rows, columns).
    """
    image = to_rows @ (field @ to_columns.mT)
    return (image.real.square() + image.imag.square()).sum(1)
