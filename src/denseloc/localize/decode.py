"""DECODE: simultaneous detection and localization with temporal context.

Each frame passes a first network; the features of three consecutive frames are joined by a second one, which gives for each camera pixel
the probability that an emitter lies in it, its position relative to the pixel's centre, its depth and photons, the standard deviations of
these, and the background.

Source: Speiser, Turaga, Macke, "Teaching deep neural networks to localize sources in super-resolution microscopy by combining
simulation-based learning and unsupervised learning" (2019), sections 1.4 and 1.5; the mixture objective and the predicted standard deviations
are those of Speiser et al., Nature Methods 18 (2021) 1082.

Ours: the half-resolution trunk of the small presets, decoding by predicted position, log-photons, and the neighbourhood form of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..data import Emitters, Frames, Localizations
from ..units import PixelSize
from .base import Batch, LocalizerSettings, Scales, TrainableLocalizer
from .candidates import Candidates, candidates, merge_by_position, suppress_non_maxima, to_localizations
from .decode_networks import SIZES, HalfResolutionNet, StackedUNets
from .layers import bfloat16_helps, compressed, noise_of
from .posterior import PixelPosterior
from .tiles import tiles

BATCH_PX = 1 << 15  # pixels of a frame batch at inference; small enough to stay in the cache


class DecodeSettings(LocalizerSettings):
    """``[localizer] kind = "decode"``."""

    kind: Literal["decode"] = "decode"
    preset: Literal["tiny", "small", "medium", "paper"] = Field(
        "small", description="size: two CPU cores in under an hour ... the paper's", examples=["tiny"]
    )
    objective: Literal["mixture", "per_pixel"] = Field(
        "mixture", description="count and Gaussian mixture, or the 2019 paper's Bernoulli form"
    )
    decoding: Literal["position", "suppression"] = Field(
        "position", description="by predicted position, or the paper's non-maximum suppression"
    )
    upsampling: Literal["bilinear", "icnr", "nearest"] = Field(
        "bilinear", description="how the networks come back to full resolution"
    )
    conditioned: bool = Field(
        False, description="told background, noise and PSF width of each movie, so that one model serves many"
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="least probability of a localization; absent: that of the decoding"
    )

    @property
    def context(self) -> int:
        """One frame on each side."""
        return 1

    @property
    def is_told(self) -> bool:
        """Whether it is told the conditions of each movie, as the document says."""
        return self.conditioned

    def build(self, scales: Scales) -> Decode:
        """Make the localizer, untrained."""
        return Decode(self, scales)


class Decode(TrainableLocalizer):
    """Network, posterior, loss and decoding in one."""

    context = 1

    def __init__(self, settings: DecodeSettings, scales: Scales) -> None:
        super().__init__(scales)
        self.settings = settings
        conditions = 4 if settings.conditioned else 0
        self.net: HalfResolutionNet | StackedUNets
        if settings.preset == "paper":
            self.net = StackedUNets(scales.planes, 48, settings.upsampling, conditions)
        else:
            self.net = HalfResolutionNet(scales.planes, SIZES[settings.preset], settings.upsampling, conditions)
        self.halo_px, self.align_px = self.net.halo, self.net.stride
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, photons: Tensor, conditions: Tensor, field: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Normalise frames by their background and noise and compress bright pixels.

        Args:
            photons: (n, planes, h, w).
            conditions: (n, 4) background, excess, noise variance, PSF width in px.
            field: (h, w) background where it is uneven, or None for that of the conditions everywhere.

        Returns:
            ``sign(u) log(1 + |u|)`` with ``u = (photons - b) / sqrt(excess b + v)``, and the conditions for the network if it takes any.
        """
        background, excess, variance, width = conditions.unbind(1)
        level = background[:, None, None, None] if field is None else field
        noise = noise_of(level, excess[:, None, None, None], variance[:, None, None, None])
        u = (photons - level) / noise
        image = compressed(u).contiguous(memory_format=torch.channels_last)
        if not self.settings.conditioned:
            return image, None
        typical = noise_of(background, excess, variance).log() - 1.5
        told = torch.stack((typical, 2 * (excess - 1.5), variance.clamp(min=1e-3).log() / 4, 2 * torch.log(width / 1.3)), 1)
        return image, told

    def posterior(self, maps: Tensor, conditions: Tensor, field: Tensor | None = None) -> PixelPosterior:
        """Read the network's ten maps (n, 10, h, w) as a distribution; arguments as for `prepare`."""
        maps = maps.float()
        level, mean = conditions[:, 0, None, None], maps[:, 1:5]
        if field is not None:  # the network saw the emitters relative to the local noise
            background, excess, variance, _ = conditions[:1].unbind(1)
            brighter = torch.log(noise_of(field, excess, variance) / noise_of(background, excess, variance))
            mean, level = torch.cat((mean[:, :3], mean[:, 3:] + brighter), 1), field
        return PixelPosterior(
            logit=maps[:, 0].clamp(-12, 8),
            mean=mean,
            sigma=torch.exp(maps[:, 5:9].clamp(-6, 2)),
            background=level * torch.exp(maps[:, 9].clamp(-4, 4)),
            pixel_size_nm=self.scales.pixel_size_nm,
            z_unit_nm=self.scales.z_unit_nm,
            photon_unit=self.scales.photon_unit,
        )

    def posterior_of_windows(self, photons: Tensor, conditions: Tensor, absent: Tensor | None = None) -> PixelPosterior:
        """Give the posterior of the inner frames of windows, for training.

        Args:
            photons: (b, t, planes, h, w), t >= 3.
            conditions: (b, 4).
            absent: (b,) True where the neighbouring frames are to be treated as missing, as at the ends of a movie.

        Returns:
            posterior of the b (t - 2) inner frames, window by window.
        """
        b, t = photons.shape[:2]
        image, told = self.prepare(photons.flatten(0, 1), conditions.repeat_interleave(t, 0))
        features = self.net.frame_features(image, told)
        features = features.unflatten(0, (b, t))
        neighbours = features if absent is None else features * (~absent).to(features.dtype)[:, None, None, None, None]
        inner = conditions.repeat_interleave(t - 2, 0)
        parts = (part.flatten(0, 1) for part in (neighbours[:, :-2], features[:, 1:-1], neighbours[:, 2:]))
        before, centre, after = (part.contiguous(memory_format=torch.channels_last) for part in parts)
        told = None if told is None else told[::t].repeat_interleave(t - 2, 0)
        return self.posterior(self.net.fuse(before, centre, after, told), inner)

    def loss(self, posterior: PixelPosterior, emitters: Emitters, background: Tensor) -> Tensor:
        """Negative log-probability of the true emitters, per frame and emitter, plus the squared error of the log-background.

        Args:
            posterior: of n frames.
            emitters: true emitters inside the frames.
            background: (n, 1, h, w) true background.
        """
        score = posterior.log_prob if self.settings.objective == "mixture" else posterior.log_prob_per_pixel
        error = torch.log(posterior.background.clamp(min=1e-3)) - torch.log(background.mean(1).clamp(min=1e-3))
        per_frame = max(1.0, len(emitters) / len(posterior.logit))
        return -score(emitters).mean() / per_frame + error.square().mean()

    def batch_loss(self, batch: Batch) -> Tensor:
        """Give the loss of a batch; the network runs in 16 bit where that is native."""
        device = batch.photons.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16_helps(device)):
            posterior = self.posterior_of_windows(batch.photons, batch.conditions, batch.absent)
        return self.loss(posterior, batch.emitters, batch.background)

    def localize_batch(self, batch: Batch) -> Localizations:
        """Localize the inner frames of a batch, in 32 bit."""
        return self.decode(candidates(self.posterior_of_windows(batch.photons, batch.conditions, batch.absent), 0, (0, 0)))

    def hidden_weights(self) -> list[nn.Parameter]:
        """List the convolutions except those that the frames enter by and those that give the maps."""
        ends = ("enter", "leave", "heads")
        return [weight for name, weight in self.net.named_parameters() if weight.ndim == 4 and not name.startswith(ends)]

    @property
    def least_probability(self) -> float:
        """The network's own probability from which on a localization is kept; what a person asks for is meant as it is reported."""
        own = 0.45 if self.settings.decoding == "position" else 0.7
        asked = self.threshold or self.settings.threshold
        return own if asked is None else self.own_probability(asked)

    def decode(self, pixels: Candidates, pixel_size_nm: PixelSize | None = None) -> Localizations:
        """Turn candidate pixels into localizations."""
        if self.settings.decoding == "position":
            found = merge_by_position(pixels, self.least_probability, depth=0.5 if self.scales.z_unit_nm else math.inf)
        else:
            found = suppress_non_maxima(pixels, self.least_probability)
        return to_localizations(found, pixel_size_nm or self.scales.pixel_size_nm, self.scales.z_unit_nm, self.scales.photon_unit)

    def stream(self, photons: Tensor, keep: tuple[int, int], field: Tensor | None = None) -> Iterator[tuple[int, PixelPosterior]]:
        """Run over consecutive frames of one tile; each frame's features are computed once.

        Args:
            photons: (n, planes, h, w), any size.
            keep: (start, stop) of the frames wanted, as indices; the others serve as context.
            field: (h, w) uneven background, or None.

        Yields:
            index of the first frame of a batch, and the posterior of the batch (only wanted frames).
        """
        n, _, h, w = photons.shape
        bottom, right = (-side % self.align_px for side in (h, w))
        if bottom or right:
            photons = functional.pad(photons, (0, right, 0, bottom), mode="replicate")
        whole = field if field is None else functional.pad(field[None, None], (0, right, 0, bottom), mode="replicate")[0, 0]
        batch = max(1, BATCH_PX // ((h + bottom) * (w + right)))
        known = self.conditions if self.settings.conditioned else self.scales.reference  # what it saw in training
        conditions = known.tensor(batch, photons.device)
        told = self.prepare(photons[:1], conditions[:1], whole)[1]
        held: Tensor | None = None  # features of the two frames before those computed next, zeros outside of the movie
        first = max(0, keep[0] - self.context)
        last = min(n, keep[1] + self.context)
        for start in range(first, last + 1, batch):
            with (
                torch.inference_mode(),
                torch.autocast(photons.device.type, dtype=torch.bfloat16, enabled=bfloat16_helps(photons.device)),
            ):
                held, joined = self._next(photons[start : min(start + batch, last)], conditions, held, whole)
                # joined holds the features of frames start-2 .. start+batch-1, from which the maps of start-1 .. start+batch-2 follow
                lo, hi = max(keep[0], start - 1), min(keep[1], start + batch - 1)
                if lo >= hi:
                    continue
                before, centre, after = (joined[lo - start + i : hi - start + i] for i in (1, 2, 3))
                maps = self.net.fuse(before, centre, after, None if told is None else told.expand(hi - lo, -1))
            yield lo, self.posterior(maps[:, :, :h, :w], conditions[: hi - lo], field)

    def _next(self, photons: Tensor, conditions: Tensor, held: Tensor | None, field: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the features of the next frames behind the two held ones; dark ones before the movie's first frame and after its last."""
        batch, n = len(conditions), len(photons)
        parts = [] if held is None else [held]
        if n:
            filled = photons if n == batch else torch.cat((photons, photons[-1:].expand(batch - n, -1, -1, -1)))
            image, told = self.prepare(filled, conditions, field)
            features = self.net.frame_features(image, told)[:n]
            parts = [*(parts or [_dark(features, 2)]), features]
        if n < batch:
            parts.append(_dark(parts[0], 1))
        joined = torch.cat(parts)
        return joined[-2:], joined

    @torch.inference_mode()
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize; see `Localizer.forward`. The context that is missing at the ends of the movie counts as dark."""
        first = frames.first_frame
        start, stop = (first, first + len(frames)) if keep is None else keep
        found: list[Candidates] = []
        for tile in tiles(frames.shape_px, tile_px, self.halo_px, self.align_px):
            part = frames.photons[:, :, tile.outer[0], tile.outer[1]]
            origin = (frames.origin_px[0] + tile.outer[0].start, frames.origin_px[1] + tile.outer[1].start)
            uneven = frames.background if self.settings.conditioned else None
            field = None if uneven is None else uneven[tile.outer[0], tile.outer[1]]
            for index, posterior in self.stream(part, (start - first, stop - first), field):
                found.append(candidates(posterior, first + index, origin, tile.core_inside))
        return self.decode(Candidates.concat(found), frames.pixel_size_nm)


def _dark(like: Tensor, n: int) -> Tensor:
    """Make the features of n frames outside of the movie, laid out as the network gives them."""
    return torch.empty(n, *like.shape[1:], dtype=like.dtype, device=like.device, memory_format=torch.channels_last).zero_()
