"""Training batches, simulated on the training device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..camera import Various
from ..data import Emitters
from ..description import Range
from ..localize import Batch
from ..microscope import Microscope
from ..specimen import Specimen

Record = Callable[[Tensor, int, torch.Generator], tuple[Tensor, Tensor, Tensor]]
"""From expected photons, number of windows and a generator to photons, excess and noise variance of each window."""


class Simulator:
    """Draws batches: specimen, microscope, and what varies from movie to movie.

    Args:
        specimen: draws emitters and backgrounds on the microscope's grid.
        microscope: forms and records the frames.
        width_px: size of the PSF in focus, in pixels, at scale 1.
        psf_scale: range of a factor on the PSF's widths, drawn for each window evenly in the logarithm.
        plane_shift_nm: each focal plane but the first is shifted against it by up to this much along each axis, drawn evenly for each window: a
            localizer that has seen such shifts bears the drift of cameras against each other. The truth is where the first plane shows it.
        told_error: standard deviation of the relative error of the background and width that the localizer is told.
        lone_fraction: fraction of windows whose frames are seen as if there were no others.
        frames: frames of a window.
        context: frames at each end of a window that serve as neighbours only.
        reference: (4,) conditions of a localizer that is not told any, or None.
    """

    def __init__(
        self,
        specimen: Specimen,
        microscope: Microscope,
        *,
        width_px: float,
        psf_scale: Range = (1.0, 1.0),
        plane_shift_nm: float = 0.0,
        told_error: float = 0.05,
        lone_fraction: float = 0.05,
        frames: int = 4,
        context: int = 1,
        reference: Tensor | None = None,
    ) -> None:
        self.specimen, self.microscope = specimen, microscope
        self.width_px, self.psf_scale, self.told_error = width_px, psf_scale, told_error
        self.plane_shift_nm = plane_shift_nm if microscope.psf.planes > 1 else 0.0
        self.lone_fraction, self.frames, self.context, self.reference = lone_fraction, frames, context, reference

    @torch.no_grad()
    def draw(self, b: int, generator: torch.Generator) -> Batch:
        """Draw b windows."""
        return self._drawn(b, generator, self._record)

    def draw_differentiably(self, b: int, generator: torch.Generator) -> Batch:
        """Draw b windows whose photons carry gradients to the parameters of the PSF.

        The camera's noise becomes normal with the same mean and variance, ``p + sqrt(excess p + v) n`` with n drawn from the standard normal
        law, so that a frame is a differentiable function of the expected photons p.

        Source: Nehme et al., Nature Methods 17 (2020) 734 (the physical layer); Kingma and Welling, arXiv 1312.6114 (reparametrised draws).
        """
        return self._drawn(b, generator, self._record_differentiably)

    def _drawn(self, b: int, generator: torch.Generator, record: Record) -> Batch:
        t = self.frames
        emitters = self.specimen.draw(t, generator, n_movies=b)
        background = self.specimen.draw_background(t, generator, n_movies=b)
        low, high = (torch.tensor(v).log() for v in self.psf_scale)
        scale = torch.exp(low + (high - low) * torch.rand(b, generator=generator, device=generator.device))
        window = emitters.frame // t
        origin = self._origins(b, generator)
        expected = self._expected(
            emitters, background, None if low == high == 0 else scale[window], None if origin is None else origin[window], generator
        )
        photons, excess, variance = record(expected, b, generator)
        level = background.unflatten(0, (b, t)).flatten(1).mean(1)
        noise = torch.exp(self.told_error * torch.randn(2, b, generator=generator, device=generator.device))
        conditions = torch.stack((level * noise[0], excess, variance, self.width_px * scale * noise[1]), 1)
        if self.reference is not None:
            conditions = self.reference.to(conditions).expand(b, -1)
        inner = self._inner(emitters)
        absent = torch.rand(b, generator=generator, device=generator.device) < self.lone_fraction
        middle = background.unflatten(0, (b, t))[:, self.context : t - self.context].flatten(0, 1)
        return Batch(photons.unflatten(0, (b, t)), conditions, inner, middle, absent)

    def _expected(
        self, emitters: Emitters, background: Tensor, scale: Tensor | None, origin: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Form the noise-free frames, each plane with the emitters where its shift puts them."""
        if not self.plane_shift_nm:
            return self.microscope.expected(emitters, background, scale, origin)
        window = emitters.frame // self.frames
        b, planes = len(background) // self.frames, self.microscope.psf.planes
        shift = self.plane_shift_nm * (2 * torch.rand(planes, 2, b, generator=generator, device=generator.device) - 1)
        shift[0] = 0.0
        drawn = []
        for plane, (dx, dy) in enumerate(shift):
            moved = replace(emitters, x_nm=emitters.x_nm + dx[window], y_nm=emitters.y_nm + dy[window])
            drawn.append(self.microscope.expected(moved, background, scale, origin)[:, plane : plane + 1])
        return torch.cat(drawn, 1)

    def _origins(self, b: int, generator: torch.Generator) -> Tensor | None:
        """Draw the places (b, 2) x, y of the windows in the field, where the PSF varies there."""
        field = self.microscope.psf.field_nm
        if field is None:
            return None
        (height, width), (y_nm, x_nm) = field, self.microscope.grid.size_nm
        room = torch.tensor([max(0.0, width - x_nm), max(0.0, height - y_nm)], device=generator.device)
        return room * torch.rand(b, 2, generator=generator, device=generator.device)

    def _record(self, expected: Tensor, b: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Expose the frames: photons as the camera tells them, and the camera's excess and noise variance (b,)."""
        camera = self.microscope.camera
        if isinstance(camera, Various):
            drawn = camera.draw(b, generator)
            return camera.sample_with(expected, drawn, generator), drawn.excess, drawn.noise_variance()
        camera = camera.random_crop(expected.shape, generator)
        photons = camera.to_photons(camera.sample(expected, generator))
        excess = torch.as_tensor(camera.excess, dtype=torch.float32, device=expected.device).mean()
        variance = camera.noise_variance(expected.shape[-2:]).mean()
        return photons, excess.expand(b), variance.to(expected.device).expand(b)

    def _record_differentiably(self, expected: Tensor, b: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Expose the frames as `_record` does, with normal noise of the camera's variance."""
        camera = self.microscope.camera
        if isinstance(camera, Various):
            drawn = camera.draw(b, generator)
            excess, dark = drawn.excess, drawn.noise_variance()
            each = (b, *(1,) * expected.ndim)
            factor, floor = excess.reshape(each), dark.reshape(each)
            mean = expected.unflatten(0, (b, -1))
            return noisy(mean, factor, floor, generator).flatten(0, 1), excess, dark
        camera = camera.random_crop(expected.shape, generator)
        factor = torch.as_tensor(camera.excess, dtype=torch.float32, device=expected.device)
        floor = camera.noise_variance(expected.shape[-2:]).to(expected.device)
        return noisy(expected, factor, floor, generator), factor.mean().expand(b), floor.mean().expand(b)

    def _inner(self, emitters: Emitters) -> Emitters:
        """Keep the emitters of inner frames whose centres lie inside the frame, and number the inner frames anew."""
        t, c = self.frames, self.context
        height, width = self.microscope.grid.size_nm
        position = emitters.frame % t
        inside = (emitters.x_nm >= 0) & (emitters.x_nm < width) & (emitters.y_nm >= 0) & (emitters.y_nm < height)
        kept = emitters.select(inside & (position >= c) & (position < t - c))
        frame = kept.frame // t * (t - 2 * c) + kept.frame % t - c
        return Emitters(frame, kept.molecule, kept.x_nm, kept.y_nm, kept.z_nm, kept.photons, kept.channel)


def noisy(expected: Tensor, excess: Tensor, floor: Tensor, generator: torch.Generator) -> Tensor:
    """Draw ``p + sqrt(excess p + v) n``, differentiable in p."""
    normal = torch.randn(expected.shape, generator=generator, device=expected.device)
    return expected + (excess * expected + floor).clamp(min=1e-2).sqrt() * normal
