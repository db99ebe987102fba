"""A bead stack: what a user records to learn the PSF, checked before anything is fitted to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..errors import CalibrationError
from .photon_transfer import Span

LEAST_LIGHT = 0.1  # share of what is not noise in the bright places below which nothing can be said of them
FULL_SCALE = (255, 1023, 4095, 16383, 65535)  # largest counts of cameras of 8 to 16 bits
LEAST_CLIPPED = 200  # counts below which equal largest values are chance
MOST_DARK = 0.9  # share of the pixels that may have less than no light, and read noise
STILL = 0.35  # least correlation of planes a tenth of the stack apart, noise aside: beads have 0.6 and more, movies 0.15 and less
EVEN = "the planes are too even to measure the camera from; give it: --camera offset=COUNTS,..., in Python camera"


@dataclass(frozen=True, eq=False)
class BeadStack:
    """Photons of beads, plane by plane of the stage.

    Args:
        photons: (depths, planes, rows, columns).
        z_nm: (depths,) position of the stage; z of the beads.
        excess: factor on the variance of shot noise.
        noise_variance: (rows, columns) read noise, photons^2.
        saturated: (rows, columns) pixels that reached the camera's largest value in some plane.
        name: of its file.
        zeros: share of the pixels with exactly 0 counts.
    """

    photons: Tensor
    z_nm: np.ndarray
    excess: float
    noise_variance: Tensor
    saturated: np.ndarray
    name: str = "the bead stack"
    zeros: float = 0.0

    @classmethod
    def of(cls, counts: np.ndarray, z_nm: np.ndarray, camera: Camera, name: str = "the bead stack") -> BeadStack:
        """Check a stack of counts, (depths, [planes,] rows, columns), and turn it into photons.

        Raises:
            CalibrationError: it cannot be a stack of beads.
        """
        if counts.ndim == 3:
            counts = counts[:, None]
        z = np.asarray(z_nm, float)
        if counts.ndim != 4 or len(counts) != len(z):
            raise CalibrationError(
                f"{name} has the shape {counts.shape} with {len(z)} depths; expected (depths, rows, columns), one depth a plane"
            )
        bad = int((~np.isfinite(counts)).sum())
        if bad:
            raise CalibrationError(f"{name}: {bad} pixels are not numbers; expected counts: export the stack again")
        steps = np.diff(z)
        if len(z) > 1 and not (np.isfinite(z).all() and ((steps > 0).all() or (steps < 0).all())):
            raise CalibrationError(f"{name}: the depths do not rise or fall steadily; expected one pass through focus")
        if steps.size and steps[0] < 0:  # from now on depths rise
            counts, z = counts[::-1], z[::-1]
        photons = camera.to_photons(torch.from_numpy(np.ascontiguousarray(counts, np.float32)))
        noise = torch.as_tensor(camera.noise_variance(counts.shape[-2:]), dtype=torch.float32).expand(counts.shape[-2:])
        excess = float(torch.as_tensor(camera.excess, dtype=torch.float32).mean())
        stack = cls(photons, z, excess, noise, _saturated(counts), name, float((counts == 0).mean()))
        stack._check_light()
        stack._check_still()
        return stack

    def every_other(self, begin: int) -> BeadStack:
        """Give every other plane, from the first (0) or the second (1) on."""
        return replace(self, photons=self.photons[begin::2], z_nm=self.z_nm[begin::2])

    def moved(self, distance_nm: float) -> BeadStack:
        """Give the stack with all depths moved."""
        return replace(self, z_nm=self.z_nm + distance_nm)

    def _check_light(self) -> None:
        """Refuse a camera whose offset lies above the counts.

        Raises:
            CalibrationError: hardly a pixel is above it.
        """
        dark = float((self.photons.mean((0, 1)) + 3 * self.noise_variance.sqrt() < 0).float().mean())
        if dark > MOST_DARK:
            raise CalibrationError(
                f"{self.name}: {100 * dark:.0f} % of the pixels lie below the camera's offset; expected light above it: give the right offset"
            )

    def _check_still(self) -> None:
        """Tell a stack from a movie: beads stay, molecules blink.

        Raises:
            CalibrationError: planes a tenth of the stack apart have little in common.
        """
        if len(self.z_nm) < 4:
            return
        mean = self.photons.mean((0, 1))
        bright = mean > torch.quantile(mean.flatten()[:: max(1, mean.numel() >> 20)], 0.98)
        light = self.photons[:, :, bright].flatten(1)
        light = light - light.mean(1, keepdim=True)
        apart = max(1, len(light) // 10)
        one, two = light[:-apart], light[apart:]
        common = float((one * two).sum() / (one.square().sum() * two.square().sum()).sqrt().clamp(min=1e-9))
        noise = float((self.excess * mean[bright].clamp(min=0) + self.noise_variance[bright]).mean())
        share = 1 - noise / max(float(light.square().mean()), 1e-9)  # what noise leaves of the correlation of still beads
        if share < LEAST_LIGHT:
            return
        if common / share < STILL:
            planes = "next to each other" if apart == 1 else f"{apart} apart"
            raise CalibrationError(
                f"{self.name}: its bright places do not stay: planes {planes} have little in common (correlation {max(common, 0.0):.2f}); expected "
                "a stack of still beads, one plane a step of the stage, not a movie of blinking molecules"
            )


def _saturated(counts: np.ndarray) -> np.ndarray:
    """Mark pixels that stand at the largest value, where that value is a camera's full scale or the same pixel stays at it.

    Noise does not give the largest value again and again; a camera at its end does.
    """
    top = counts.max()
    times = (counts == top).sum((0, 1))
    clipped = times.sum() >= 3 if top in FULL_SCALE else times.max() >= 3 and times.sum() >= 6 and top > LEAST_CLIPPED
    return np.asarray(times > 0) if clipped else np.zeros(counts.shape[-2:], bool)


def measure_camera(counts: np.ndarray) -> tuple[float, Span]:
    """Estimate offset and gain of a camera from a stack of beads, where neither is known.

    The fourth difference along z cancels the slow change of the beads; its variance against the mean gives the gain, and the offset is
    where the variance vanishes, for a camera whose read noise is small against the shot noise of the background.

    Args:
        counts: (depths, ..., rows, columns).

    Returns:
        offset in counts, and counts per photon with the ends of its interval.

    Raises:
        CalibrationError: too few planes.
    """
    if len(counts) < 8:
        raise CalibrationError(
            f"{len(counts)} planes are too few to measure the camera from; give it: --camera offset=COUNTS,..., in Python camera"
        )
    planes = counts.astype(np.float64)
    difference, centre = np.diff(planes, 4, axis=0), planes[2:-2]
    mean = ((planes[1:-3] + centre + planes[3:-1]) / 3).ravel()
    square = (difference**2 / 70).ravel()  # 70 = 1 + 16 + 36 + 16 + 1
    edges = np.unique(np.quantile(mean, np.linspace(0, 1, 41)))
    if len(edges) < 4:
        raise CalibrationError(EVEN)
    place = np.clip(np.searchsorted(edges, mean, "right") - 1, 0, len(edges) - 2)
    number = np.bincount(place, minlength=len(edges) - 1)
    used = number > 20
    level = np.bincount(place, mean, len(edges) - 1)[used] / number[used]
    variance = np.bincount(place, square, len(edges) - 1)[used] / number[used]
    weight = np.sqrt(number[used]) / np.maximum(variance, 1e-9)
    if used.sum() < 3:
        raise CalibrationError(EVEN)
    (slope, start), covariance = np.polyfit(level, variance, 1, w=weight, cov=True)
    low = float(np.quantile(mean, 0.001))
    if slope <= 0:
        raise CalibrationError(
            "the noise does not grow with the light; give the camera: --camera offset=COUNTS,..., in Python camera"
        )
    offset = float(np.clip(-start / slope, 0, low))
    error = 2 * float(np.sqrt(covariance[0, 0]))
    return offset, Span(float(slope), float(slope) - error, float(slope) + error)
