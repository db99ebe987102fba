"""The microscope: PSF, camera and pixel grid; expected frames, sampled frames and their likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .camera import Camera
from .data import Emitters, Grid
from .kernels.splat import naive
from .optics import PSF


class Microscope(nn.Module):
    """One differentiable model of the instrument.

    Args:
        psf: fractions of an emitter's photons on the pixels around it.
        camera: counts from photons and back.
        grid: the pixels.
    """

    def __init__(self, psf: PSF, camera: Camera, grid: Grid) -> None:
        super().__init__()
        self.psf = psf
        self.camera = camera
        self.grid = grid

    def expected(
        self, emitters: Emitters, background: Tensor, scale: Tensor | None = None, origin_nm: Tensor | None = None
    ) -> Tensor:
        """Form the noise-free frames.

        Args:
            emitters: any order; frames 0 .. n-1. Differentiable in positions and photons. Each is drawn by the PSF of its colour channel.
            background: (n, planes or 1, rows, columns) photons per pixel.
            scale: (emitters,) factor on the widths of the PSF, or None.
            origin_nm: (emitters, 2) place (x, y) of the grid's outer corner in the field, for a PSF that varies there; its corner if None.

        Returns:
            (n, planes, rows, columns) expected photons.

        Raises:
            ValueError: an emitter lies in a frame that is not there, or in a colour channel that the PSF does not know.
        """
        rows, columns = self.grid.shape_px
        y_nm, x_nm = self.grid.pixel_size_nm
        frames = background.expand(-1, self.psf.planes, rows, columns)
        if len(emitters) == 0:
            return frames.clone()
        first, last = emitters.frame.aminmax()
        if first < 0 or last >= len(frames):
            raise ValueError(f"emitters in frames {int(first)} .. {int(last)}; expected frames 0 .. {len(frames) - 1}")
        x, y = emitters.x_nm / x_nm - 0.5, emitters.y_nm / y_nm - 0.5
        column, row = x.detach().round().long(), y.detach().round().long()
        place = torch.stack((emitters.x_nm, emitters.y_nm), -1) if self.psf.varies_in_field else None
        place = place if place is None or origin_nm is None else place + origin_nm
        patches = self.psf.in_channels(emitters.channel, torch.stack((x - column, y - row), -1), emitters.z_nm, scale, place)
        patches = patches * emitters.photons[:, None, None, None]
        if torch.is_grad_enabled() or patches.device.type != "cpu":
            return naive.splat(patches, emitters.frame, row, column, frames).clamp(min=0)
        from .kernels.splat import numba_cpu

        total = frames.contiguous().clone()
        numba_cpu.splat(patches.numpy(), emitters.frame.numpy(), row.numpy(), column.numpy(), total.numpy())
        return total.clamp_(min=0)

    def sample(self, emitters: Emitters, background: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts (n, planes, rows, columns) of frames with these emitters."""
        return self.camera.sample(self.expected(emitters, background), generator)

    def log_prob(self, counts: Tensor, emitters: Emitters, background: Tensor) -> Tensor:
        """Log-likelihood (n,) of counted frames, given emitters and background."""
        return self.camera.log_prob(counts, self.expected(emitters, background)).flatten(1).sum(1)
