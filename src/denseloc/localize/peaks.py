"""Grids finer than the camera's pixels, in two and three dimensions: truth on them, smoothing, local maxima and their centres of mass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..data import Emitters, Localizations
from ..units import PixelSize

RADIUS = 3  # of the smoothing kernel, in voxels: 7 of them across
SMOOTHING = 1.0  # variance of the kernel in voxels
CHUNK = 1 << 23  # numbers gathered at once


@dataclass(frozen=True)
class VoxelGrid:
    """A grid on the frame (and, with several planes, in depth) that is finer than the camera's pixels.

    Args:
        finer: voxels per camera pixel and axis.
        depths: planes; 1 for a plain image.
        z_nm: (lowest, highest) depth, the outer faces of the first and the last plane.
    """

    finer: int
    depths: int = 1
    z_nm: tuple[float, float] = (0.0, 0.0)

    @property
    def step_nm(self) -> float:
        """Distance of two planes, 0 for a plain image."""
        return (self.z_nm[1] - self.z_nm[0]) / self.depths

    def places(self, emitters: Emitters, pixel_size_nm: PixelSize) -> Tensor:
        """Give (n, 3) depth, row and column in voxels, whole numbers at the middle of a voxel."""
        (y_nm, x_nm), step = pixel_size_nm, self.step_nm
        z = (emitters.z_nm - self.z_nm[0]) / step - 0.5 if step else torch.zeros_like(emitters.x_nm)
        return torch.stack((z, emitters.y_nm / y_nm * self.finer - 0.5, emitters.x_nm / x_nm * self.finer - 0.5), 1)

    def smooth_truth(self, emitters: Emitters, n: int, shape: tuple[int, int], pixel_size_nm: PixelSize) -> Tensor:
        """Draw emitters of weight 1, each shared by the voxels next to it so that the centre of mass is its place, and smoothed.

        Args:
            emitters: frames 0 .. n - 1; those beyond the grid are put into its outermost voxels.
            n: frames.
            shape: (rows, columns) of the grid.
            pixel_size_nm: (y, x) of the camera's pixels.

        Returns:
            (n, depths, rows, columns), channels last: what `smoothed` makes of the shared points.
        """
        size = (self.depths, *shape)
        maps = torch.zeros(n, *size, device=emitters.x_nm.device).contiguous(memory_format=torch.channels_last)
        place = self.places(emitters, pixel_size_nm).float()
        at, shares = zip(*(self._along(place[:, axis], size[axis]) for axis in range(3)), strict=True)
        share = shares[0][:, :, None, None] * shares[1][:, None, :, None] * shares[2][:, None, None, :]
        index = (emitters.frame[:, None, None, None], at[0][:, :, None, None], at[1][:, None, :, None], at[2][:, None, None, :])
        return maps.index_put_(tuple(i.expand_as(share) for i in index), share, accumulate=True)

    def _along(self, place: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Give the voxels (m, k) around places on one axis and the shares that lie in them, zero beyond the grid."""
        if size == 1:
            return torch.zeros_like(place, dtype=torch.long)[:, None], torch.ones_like(place)[:, None]
        low = place.clamp(0, size - 1).floor()
        part = (place.clamp(0, size - 1) - low)[:, None]
        kernel = functional.pad(_kernel(place), (1, 1))
        at = low.long()[:, None] + torch.arange(-RADIUS, RADIUS + 2, device=place.device)
        share = (1 - part) * kernel[1:] + part * kernel[:-1]
        return at.clamp(0, size - 1), share * ((at >= 0) & (at < size))


def smoothed(maps: Tensor) -> Tensor:
    """Convolve with a Gaussian of standard deviation 1 voxel and sum 1, cut off 3 voxels from its middle; zero beyond the grid.

    Args:
        maps: (n, depths, rows, columns). One plane is smoothed in two dimensions, several in three.
    """
    if maps.shape[1] == 1:
        return _along_planes(maps.transpose(0, 1)).transpose(0, 1)  # what is quick is many channels
    plane = torch.arange(maps.shape[1], device=maps.device)
    apart = (plane[:, None] - plane).abs()
    band = torch.where(apart <= RADIUS, _kernel(maps)[(RADIUS + apart).clamp(max=2 * RADIUS)], 0.0)
    return (_along_planes(maps).permute(0, 2, 3, 1) @ band).permute(0, 3, 1, 2)


def _along_planes(maps: Tensor) -> Tensor:
    """Smooth rows and columns."""
    maps, kernel, n = maps.contiguous(memory_format=torch.channels_last), _kernel(maps), maps.shape[1]
    maps = functional.conv2d(maps, kernel.view(1, 1, -1, 1).expand(n, 1, -1, 1), padding=(RADIUS, 0), groups=n)
    return functional.conv2d(maps, kernel.view(1, 1, 1, -1).expand(n, 1, 1, -1), padding=(0, RADIUS), groups=n)


def _kernel(like: Tensor) -> Tensor:
    kernel = torch.exp(-(torch.arange(-RADIUS, RADIUS + 1, device=like.device, dtype=like.dtype) ** 2) / 2)
    return kernel / kernel.sum()


def lone_height(depths: int) -> float:
    """Give the height of a smoothed emitter in the middle of a voxel."""
    return float(_kernel(torch.zeros(1))[RADIUS]) ** (2 if depths == 1 else 3)


def lone_energy(depths: int) -> float:
    """Give the sum of squares of a smoothed emitter in the middle of a voxel."""
    return float(_kernel(torch.zeros(1)).square().sum()) ** (2 if depths == 1 else 3)


@dataclass(frozen=True, eq=False)
class Peaks:
    """Local maxima, in the order of frame, depth, row, column.

    Args:
        at: (m, 4) frame, depth, row and column of the highest voxel.
        mass: (m,) sum over the window around it.
        centre: (m, 3) centre of mass of the window: depth, row, column in voxels, whole numbers at the middle of a voxel.
        spread: (m, 3) standard deviation of the mass along these axes without the smoothing, in voxels; that of an even voxel at least.
    """

    at: Tensor
    mass: Tensor
    centre: Tensor
    spread: Tensor

    def select(self, keep: Tensor) -> Peaks:
        """Take those of a mask."""
        return Peaks(self.at[keep], self.mass[keep], self.centre[keep], self.spread[keep])

    @property
    def probability(self) -> Tensor:
        """The mass m, bent to stay below 1 and yet to grow with it: ``m (1 + m^4)^(-1/4)``."""
        mass = self.mass.double()
        return mass * (1 + mass**4) ** -0.25

    def table(self, grid: VoxelGrid, pixel_size_nm: PixelSize) -> Localizations:
        """Make rows: place, depth where the grid has several planes, probability and standard deviations."""
        y_nm, x_nm = (side / grid.finer for side in pixel_size_nm)
        place = self.centre.double().cpu()
        spread = self.spread.cpu()
        columns = {
            "frame": self.at[:, 0].cpu(),
            "x_nm": (place[:, 2] + 0.5) * x_nm,
            "y_nm": (place[:, 1] + 0.5) * y_nm,
            "probability": self.probability.cpu(),
            "sigma_x_nm": spread[:, 2] * x_nm,
            "sigma_y_nm": spread[:, 1] * y_nm,
        }
        if grid.step_nm:
            columns |= {"z_nm": (place[:, 0] + 0.5) * grid.step_nm + grid.z_nm[0], "sigma_z_nm": spread[:, 0] * grid.step_nm}
        return Localizations({name: values.numpy() for name, values in columns.items()})


def find_peaks(maps: Tensor, least: float, reach: tuple[int, int, int]) -> Peaks:
    """Find the voxels above ``least`` that no other one within ``reach`` exceeds, and the centre of mass around each.

    Of equal voxels the first counts. Beyond the grid all is zero, and what is below zero counts as zero.

    Args:
        maps: (n, depths, rows, columns).
        least: only higher voxels are looked at.
        reach: (depth, row, column) of the window around a voxel, on each side.
    """
    at = torch.nonzero(maps > least)
    for window in ((0, 0, 1), (0, 1, 0), (min(1, reach[0]), 1, 1), reach):  # most fall at their next neighbours
        at = torch.cat([part[_is_top(_around(maps, part, window))] for part in at.split(_chunk(window))])
    parts = [_measured(maps, part, reach) for part in at.split(_chunk(reach))]
    mass, centre, spread = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return Peaks(at, mass, centre, spread)


def _chunk(reach: tuple[int, int, int]) -> int:
    return max(1, CHUNK // math.prod(2 * r + 1 for r in reach))


def _around(maps: Tensor, at: Tensor, reach: tuple[int, int, int]) -> Tensor:
    """Take the windows (m, k, l, o) around voxels, not below zero."""
    places, there = [], []
    for axis, r in enumerate(reach):
        place = at[:, 1 + axis, None] + torch.arange(-r, r + 1, device=at.device)
        there.append((place >= 0) & (place < maps.shape[1 + axis]))
        places.append(place.clamp(0, maps.shape[1 + axis] - 1))
    z, y, x = places
    window = maps[at[:, 0, None, None, None], z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]].clamp(min=0)
    return window * (there[0][:, :, None, None] & there[1][:, None, :, None] & there[2][:, None, None, :])


def _is_top(windows: Tensor) -> Tensor:
    """Whether the middle exceeds what comes before it in reading order, and is exceeded by nothing after it."""
    flat = windows.flatten(1)
    middle = flat.shape[1] // 2
    top = flat[:, middle, None]
    return (flat[:, :middle] < top).all(1) & (flat[:, middle + 1 :] <= top).all(1)


def _measured(maps: Tensor, at: Tensor, reach: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Give mass (m,), centre (m, 3) and spread (m, 3) of the windows."""
    window = _around(maps, at, reach)
    mass = window.sum((1, 2, 3))
    centres, spreads = [], []
    for axis, r in enumerate(reach):
        steps = torch.arange(-r, r + 1, device=maps.device, dtype=window.dtype)
        share = window.sum(tuple(other for other in (1, 2, 3) if other != 1 + axis)) / mass[:, None].clamp(min=1e-9)
        mean = (share * steps).sum(1)
        centres.append(at[:, 1 + axis] + mean)
        spreads.append(((share * steps**2).sum(1) - mean**2 - SMOOTHING).clamp(min=1 / 12).sqrt())
    return mass, torch.stack(centres, 1), torch.stack(spreads, 1)
