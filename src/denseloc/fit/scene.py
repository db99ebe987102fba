"""Frames in which many emitters lie: their pixels, the PSF that draws the emitters, and where a fit may take them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.splat import naive as splat
from ..optics import PSF
from .drawing import DEPTHS_NM, LANES, Third, draw, frozen, number_type, patches, split
from .noise import Noise

LEAST_PHOTONS = 1e-2
AT_ONCE = 4096  # emitters drawn at once


class Scene:
    """Frames, and how emitters are drawn into them.

    Args:
        psf: any PSF.
        photons: (frames, planes, h, w); NaN where there is no pixel.
        noise: of the photons.
        window_px: odd side of the square of pixels around an emitter that tell of it.
        depth: whether z is found; as the PSF's kind says if None.
        z_range_nm: depths allowed; those of the PSF if None.
        reach_px: how far an emitter may move from where it starts, along x and y.
        most: emitters in a group.
        slope: whether the background of a group may slope.
        origin_px: (row, column) of the frames' first pixel in the field, for a PSF that varies there.
    """

    def __init__(
        self,
        psf: PSF,
        photons: Tensor,
        noise: Noise,
        *,
        window_px: int,
        depth: bool | None = None,
        z_range_nm: tuple[float, float] | None = None,
        reach_px: float = 2.0,
        most: int = 8,
        slope: bool = False,
        origin_px: tuple[int, int] = (0, 0),
    ) -> None:
        self.psf = frozen(psf, photons.dtype, photons.device)
        has_depth = psf.settings.tells_depth if depth is None else depth
        self.third: Third | None = "depth" if has_depth else None
        self.n_coordinates = 3 if has_depth else 2
        self.shape_px = (photons.shape[-2], photons.shape[-1])
        self.counts, self.dark, self.noise = noise.counts(photons), noise.dark(photons), noise
        self.half, self.most, self.kinds = window_px // 2, most, 3 if slope else 1
        self.pixel = torch.tensor(psf.pixel_size_nm[::-1], dtype=torch.float64, device=photons.device)
        self.origin = torch.tensor(origin_px[::-1], dtype=torch.float64, device=photons.device)
        self.limits = self._limits(z_range_nm or psf.z_range_nm or DEPTHS_NM, reach_px)

    def _places(self, at: Tensor) -> Tensor | None:
        """Give the places (x, y) in nm in the field, where the PSF asks for them."""
        return (at[:, :2] + 0.5 + self.origin) * self.pixel if self.psf.varies_in_field else None

    def _lanes(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Fill spots (n, >= 2) up to full lanes: whole pixels (n, 2), what is drawn (n', 3), places (n', 2)."""
        whole, part = split(at[:, :2])
        third = at[:, 2:3] if self.third else torch.zeros_like(at[:, :1])
        drawn = torch.cat((part, third), 1)
        places = self._places(at)
        more = -len(at) % LANES if len(at) else 0
        padded = torch.cat((drawn, drawn[-1:].expand(more, -1))).to(number_type(self.psf))
        if places is not None:
            places = torch.cat((places, places[-1:].expand(more, -1))).to(padded)
        return whole, padded, places

    def fractions(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Draw spots: whole pixels x, y (n, 2) int64, and photon fractions (n, planes, k, k) around them."""
        whole, drawn, places = self._lanes(at)
        return whole, (draw(self.psf, drawn, self.third, places) * _edges(drawn, self.psf.roi_px))[: len(at)]

    def with_slopes(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw spots: whole pixels, fractions, and their derivatives (n, d, planes, k, k) by x, y in px [and depth in nm]."""
        whole, drawn, places = self._lanes(at)
        values, slopes = patches(self.psf, drawn[:, :2], drawn[:, 2], self.third, places)
        row, column = _fading(drawn[:, 1], self.psf.roi_px), _fading(drawn[:, 0], self.psf.roi_px)
        edges = row[0][:, None, :, None] * column[0][:, None, None, :]
        slopes = slopes * edges[:, None]
        slopes[:, 0] += values * row[0][:, None, :, None] * column[1][:, None, None, :]
        slopes[:, 1] += values * row[1][:, None, :, None] * column[0][:, None, None, :]
        return whole, (values * edges)[: len(at)], slopes[: len(at)]

    def light(self, frame: Tensor, at: Tensor) -> Tensor:
        """Draw emitters (n, c) into their frames: (frames, planes, h, w) photons."""
        total = torch.zeros_like(self.counts)
        for i in range(0, len(at), AT_ONCE):
            some = slice(i, i + AT_ONCE)
            whole, drawn = self.fractions(at[some])
            bright = (at[some, self.n_coordinates, None, None, None] * drawn).to(total)
            if total.device.type == "cpu":
                from ..kernels.splat import numba_cpu

                arrays = (bright, frame[some], whole[:, 1], whole[:, 0], total)
                numba_cpu.splat(*(a.contiguous().numpy() for a in arrays))
            else:
                total = splat.splat(bright, frame[some], whole[:, 1], whole[:, 0], total)
        return total

    def _limits(self, z_range: tuple[float, float], reach_px: float) -> tuple[list[float], list[float], list[float]]:
        """Give low, high and stride of one emitter's parameters, positions as moves from the start."""
        low, high, stride = [-reach_px, -reach_px], [reach_px, reach_px], [1.0, 1.0]
        if self.third:
            low, high = [*low, z_range[0]], [*high, z_range[1]]
            stride.append((z_range[1] - z_range[0]) / 5)
        infinite = float("inf")
        return [*low, LEAST_PHOTONS], [*high, infinite], [*stride, infinite]


def _fading(offset_px: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Give weights (n, size) of a patch's rows or columns, and their derivatives by the offset.

    Patches move by whole pixels where an offset passes half of one. Their outermost pixels fade out until there, so that the likelihood has no
    step at which a fit could get stuck.
    """
    weight, slope = torch.ones(len(offset_px), size).to(offset_px), torch.zeros(len(offset_px), size).to(offset_px)
    weight[:, 0], weight[:, -1] = 0.5 - offset_px, 0.5 + offset_px
    slope[:, 0], slope[:, -1] = -1.0, 1.0
    return weight, slope


def _edges(drawn: Tensor, size: int) -> Tensor:
    """Give the weights of whole patches, (n, 1, size, size)."""
    return _fading(drawn[:, 1], size)[0][:, None, :, None] * _fading(drawn[:, 0], size)[0][:, None, None, :]
