"""What a network of the DECODE family returns: a distribution over sets of emitters, given as maps on the camera's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Emitters
from ..units import PixelSize

NEIGHBOURHOOD = 3  # an emitter is explained by the pixels up to this far from its own: 7 x 7


@dataclass(frozen=True)
class PixelPosterior:
    """Factors per pixel: detection, position, photons; and the background.

    Args:
        logit: (n, h, w) log-odds of a detection in the pixel.
        mean: (n, 4, h, w) x and y in px relative to the centre of the pixel, z / z_unit, log(photons / photon_unit).
        sigma: (n, 4, h, w) standard deviations of the same.
        background: (n, h, w) photons per pixel.
        pixel_size_nm: (y, x).
        z_unit_nm: unit of the z map; 0 if the model knows no depth.
        photon_unit: unit inside the logarithm.
        channel_logit: (n, channels, h, w) logits of the colour channels, up to a constant; None for one colour.
    """

    logit: Tensor
    mean: Tensor
    sigma: Tensor
    background: Tensor
    pixel_size_nm: PixelSize
    z_unit_nm: float
    photon_unit: float
    channel_logit: Tensor | None = None

    @property
    def channel_probability(self) -> Tensor | None:
        """(n, channels, h, w) probabilities of the colour channels, None for one colour."""
        return None if self.channel_logit is None else torch.softmax(self.channel_logit, 1)

    def _log_channel(self, pixel: Tensor, channel: Tensor) -> Tensor | float:
        """Log-probability of channels at pixels given by their flat indices, of one shape; 0 for one colour."""
        if self.channel_logit is None:
            return 0.0
        logit = self.channel_logit.permute(0, 2, 3, 1).flatten(0, 2)[pixel]
        return torch.log_softmax(logit, -1).gather(-1, channel[..., None])[..., 0]

    @property
    def probability(self) -> Tensor:
        """(n, h, w) probability of a detection."""
        return torch.sigmoid(self.logit)

    def coordinates(self, emitters: Emitters) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give frame, row, column (m,) and the four continuous coordinates (m, 4) of emitters, x and y in px from the corner pixel's centre."""
        y_nm, x_nm = self.pixel_size_nm
        x, y = emitters.x_nm / x_nm - 0.5, emitters.y_nm / y_nm - 0.5
        _, h, w = self.logit.shape
        row, column = y.round().long().clamp(0, h - 1), x.round().long().clamp(0, w - 1)
        z = emitters.z_nm / self.z_unit_nm if self.z_unit_nm else torch.zeros_like(x)
        brightness = torch.log(emitters.photons.clamp(min=1e-3) / self.photon_unit)
        return emitters.frame, row, column, torch.stack((x, y, z, brightness), -1)

    def _log_normal(self, value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
        """Sum the normal log-densities over the last axis, without z where the model knows no depth."""
        density = -0.5 * ((value - mean) / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)
        if not self.z_unit_nm:
            density = density[..., [0, 1, 3]]
        return density.sum(-1)

    def log_prob(self, emitters: Emitters) -> Tensor:
        """Log-probability (n,) of each frame's emitters: number of emitters, then each emitter under the mixture of its neighbourhood.

        The number is normal with the mean and variance of independent detections; an emitter has the density
        ``sum_k p_k / sum(p) N(emitter; mean_k, sigma_k)``. Only the 7 x 7 pixels around an emitter are looked at: farther ones add nothing
        that counts, and the cost no longer grows with frame size times emitters. With several colours the mixture's members have the
        probability of the emitter's channel as a further factor.

        Source: Speiser et al., Nature Methods 18 (2021) 1082, equations 6 to 9.
        """
        n, h, w = self.logit.shape
        p = self.probability
        total = p.sum((1, 2))
        variance = (p * (1 - p)).sum((1, 2)) + 1e-3
        frame, row, column, value = self.coordinates(emitters)
        number = torch.bincount(frame, minlength=n).to(total.dtype)
        count = -0.5 * (number - total) ** 2 / variance - 0.5 * torch.log(2 * math.pi * variance)
        if len(emitters) == 0:
            return count

        steps = torch.arange(-NEIGHBOURHOOD, NEIGHBOURHOOD + 1, device=row.device)
        rows, columns = row[:, None, None] + steps[:, None], column[:, None, None] + steps
        inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
        rows, columns = rows.clamp(0, h - 1), columns.clamp(0, w - 1)
        flat = ((frame[:, None, None] * h + rows) * w + columns).flatten()
        centre = torch.stack(torch.broadcast_tensors(columns, rows), -1).to(value.dtype)
        log_p = torch.nn.functional.logsigmoid(self.logit).flatten()[flat].reshape(inside.shape)
        mean = self.mean.permute(0, 2, 3, 1).reshape(-1, 4)[flat].reshape(*inside.shape, 4)
        sigma = self.sigma.permute(0, 2, 3, 1).reshape(-1, 4)[flat].reshape(*inside.shape, 4)
        relative = torch.cat((value[:, None, None, :2] - centre, value[:, None, None, 2:].expand(*inside.shape, 2)), -1)
        density = self._log_normal(relative, mean, sigma)
        density = density + self._log_channel(flat.reshape(inside.shape), emitters.channel[:, None, None].expand(inside.shape))
        density = (log_p + density).masked_fill(~inside, -torch.inf)
        mixture = torch.logsumexp(density.flatten(1), 1) - torch.log(total + 1e-6)[frame]
        return count.index_add(0, frame, mixture)

    def log_prob_per_pixel(self, emitters: Emitters) -> Tensor:
        """Log-probability (n,) of each frame's emitters when each pixel decides alone: Bernoulli detection, then its emitter's coordinates.

        Two emitters in one pixel count as the brighter one.

        Source: Speiser et al. 2019, section 1.4.
        """
        n, h, w = self.logit.shape
        order = torch.argsort(emitters.photons, stable=True)
        emitters = emitters.select(order)
        frame, row, column, value = self.coordinates(emitters)
        flat = (frame * h + row) * w + column
        owner = torch.full((n * h * w,), -1, dtype=torch.long, device=flat.device)
        owner = owner.scatter_reduce(0, flat, torch.arange(len(flat), device=flat.device), "amax")
        occupied = owner >= 0
        logit = self.logit.flatten()
        detection = (
            torch.where(occupied, torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit))
            .reshape(n, -1)
            .sum(1)
        )
        at, which = torch.nonzero(occupied)[:, 0], owner[occupied]
        centre = torch.stack((column[which], row[which]), -1).to(value.dtype)
        relative = torch.cat((value[which, :2] - centre, value[which, 2:]), -1)
        mean, sigma = self.mean.permute(0, 2, 3, 1).reshape(-1, 4)[at], self.sigma.permute(0, 2, 3, 1).reshape(-1, 4)[at]
        density = self._log_normal(relative, mean, sigma) + self._log_channel(at, emitters.channel[which])
        return detection.index_add(0, frame[which], density)

    def sample(self, k: int, generator: torch.Generator) -> list[Emitters]:
        """Draw k sets of emitters: independent detections, then coordinates and colours of the detected pixels."""
        draws = []
        p = self.probability
        y_nm, x_nm = self.pixel_size_nm
        for _ in range(k):
            hit = torch.rand(p.shape, generator=generator, device=p.device) < p
            frame, row, column = torch.nonzero(hit, as_tuple=True)
            mean, sigma = (m.permute(0, 2, 3, 1)[hit] for m in (self.mean, self.sigma))
            value = mean + sigma * torch.randn(mean.shape, generator=generator, device=mean.device)
            channel = None
            if self.channel_logit is not None:
                chance = torch.softmax(self.channel_logit, 1).permute(0, 2, 3, 1)[hit]
                u = torch.rand(len(chance), 1, generator=generator, device=chance.device)
                channel = (u >= chance.cumsum(1)[:, :-1]).sum(1)
            draws.append(
                Emitters.of(
                    frame=frame,
                    x_nm=(column + value[:, 0] + 0.5) * x_nm,
                    y_nm=(row + value[:, 1] + 0.5) * y_nm,
                    z_nm=value[:, 2] * self.z_unit_nm,
                    photons=torch.exp(value[:, 3]) * self.photon_unit,
                    channel=channel,
                )
            )
        return draws
