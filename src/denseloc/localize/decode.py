"""DECODE: simultaneous detection and localization with temporal context.

Each frame passes a first network; its features are joined with those of its context by a second one, which gives for each camera pixel the
probability that an emitter lies in it, its position relative to the pixel's centre, its depth and photons, the standard deviations of these, and
the background.

The context is local (the features of the frames before and after), global (the mean over all frames of the movie of the features at the same
place, which says where there is structure), both, or none. The paper learns global context with a running mean over its last 100 batches of crops.
For simulations that would be a mean over unrelated samples, which knows nothing of the place. Here a training window is a movie of its own, whose
frames share one structure, and the mean goes over the frames of the window; it needs long windows (``training.frames``) and a document with a
structure. A share of the windows (``training.lone_fraction``) is learned as movies of one frame: no neighbours, and the frame itself as the mean.
At inference a first pass over the movie (`Decode.look_over`) collects the mean, as in the paper, and a second one localizes.

Source: Speiser, Turaga, Macke, "Teaching deep neural networks to localize sources in super-resolution microscopy by combining
simulation-based learning and unsupervised learning" (2019), sections 1.4 and 1.5; the mixture objective and the predicted standard deviations
are those of Speiser et al., Nature Methods 18 (2021) 1082.

An emitter that lasts has one position in all its frames (the specimen draws places by molecule), so that its offsets in consecutive frames are the
same in training, as the paper has it. With ``specimen.blinking`` "none" nothing lasts, and neighbours tell nothing.

Where the PSF has several colour channels, the network gives a probability of each for every pixel besides.

Ours: the half-resolution trunk of the small presets, decoding by predicted position, log-photons, the neighbourhood form of the loss, and colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..data import Emitters, Frames, Localizations
from ..errors import ModelError
from ..units import PixelSize
from .base import Batch, LocalizerSettings, Scales
from .candidates import Candidates, candidates, merge_by_position, suppress_non_maxima, to_localizations
from .decode_networks import CHANNELS, SIZES, HalfResolutionNet, StackedUNets
from .inferring import InferringLocalizer
from .layers import bfloat16_helps, compressed, noise_of
from .overview import Overview
from .posterior import PixelPosterior
from .tiles import Tile, tiles

BATCH_PX = 1 << 15  # pixels of a frame batch at inference; small enough to stay in the cache


class DecodeSettings(LocalizerSettings):
    """``[localizer] kind = "decode"``."""

    tells_colours: ClassVar[bool] = True

    kind: Literal["decode"] = "decode"
    preset: Literal["tiny", "small", "medium", "paper"] = Field(
        "small", description="size: two CPU cores in under an hour ... the paper's", examples=["tiny"]
    )
    context: Literal["none", "local", "global", "both"] = Field(
        "local",
        description="what a frame is seen with: the frames before and after it, the mean over all frames of the movie, or both",
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
    def neighbours(self) -> int:
        """One frame on each side with local context."""
        return 1 if self.context in ("local", "both") else 0

    @property
    def sees_all_frames(self) -> bool:
        """Whether it has global context."""
        return self.context in ("global", "both")

    @property
    def is_told(self) -> bool:
        """Whether it is told the conditions of each movie, as the document says."""
        return self.conditioned

    def build(self, scales: Scales) -> Decode:
        """Make the localizer, untrained."""
        return Decode(self, scales)


class Decode(InferringLocalizer):
    """Network, posterior, loss and decoding in one."""

    def __init__(self, settings: DecodeSettings, scales: Scales) -> None:
        super().__init__(scales)
        self.settings = settings
        self.context, self.sees_all_frames = settings.neighbours, settings.sees_all_frames
        self.overview: Overview | None = None
        conditions = 4 if settings.conditioned else 0
        joins = 1 + 2 * self.context + int(self.sees_all_frames)
        colours = scales.channels if scales.channels > 1 else 0
        self.net: HalfResolutionNet | StackedUNets
        if settings.preset == "paper":
            self.net = StackedUNets(scales.planes, 48, settings.upsampling, conditions, joins, colours)
        else:
            self.net = HalfResolutionNet(scales.planes, SIZES[settings.preset], settings.upsampling, conditions, joins, colours)
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
        """Read the network's maps (n, 10 + colours, h, w) as a distribution; arguments as for `prepare`."""
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
            channel_logit=maps[:, CHANNELS:] if self.scales.channels > 1 else None,
        )

    def posterior_of_windows(self, photons: Tensor, conditions: Tensor, absent: Tensor | None = None) -> PixelPosterior:
        """Give the posterior of the inner frames of windows; see `InferringLocalizer`."""
        b, t = photons.shape[:2]
        image, told = self.prepare(photons.flatten(0, 1), conditions.repeat_interleave(t, 0))
        features = self.net.frame_features(image, told).unflatten(0, (b, t))
        inner = t - 2 * self.context
        parts = (part.flatten(0, 1).contiguous(memory_format=torch.channels_last) for part in self._in_context(features, absent))
        told = None if told is None else told[::t].repeat_interleave(inner, 0)
        return self.posterior(self.net.fuse(list(parts), told), conditions.repeat_interleave(inner, 0))

    def _in_context(self, features: Tensor, absent: Tensor | None) -> Iterator[Tensor]:
        """Give what `fuse` joins for the inner frames of windows, from features (b, t, f, h, w): (b, t - 2 c, f, h, w) each."""
        t, c = features.shape[1], self.context
        alone = None if absent is None else absent[:, None, None, None, None]
        if c:
            neighbours = features if alone is None else features * (~alone).to(features.dtype)
            yield neighbours[:, :-2]
        centre = features[:, c : t - c]
        yield centre
        if c:
            yield neighbours[:, 2:]
        if self.sees_all_frames:
            mean = features.mean(1, keepdim=True).expand_as(centre)
            yield mean if alone is None else torch.where(alone, centre, mean)

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
        return self.localize_windows(batch.photons, batch.conditions, batch.absent)

    def localize_windows(self, photons: Tensor, conditions: Tensor, absent: Tensor | None = None) -> Localizations:
        """Localize the inner frames of windows; see `InferringLocalizer`."""
        return self.decode(candidates(self.posterior_of_windows(photons, conditions, absent), 0, (0, 0)))

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

    def stream(
        self, photons: Tensor, keep: tuple[int, int], field: Tensor | None = None, mean: Tensor | None = None
    ) -> Iterator[tuple[int, PixelPosterior]]:
        """Run over consecutive frames of one tile; each frame's features are computed once.

        Args:
            photons: (n, planes, h, w), any size.
            keep: (start, stop) of the frames wanted, as indices; the others serve as context.
            field: (h, w) uneven background, or None.
            mean: (1, f, rows, columns) mean features of the movie, for a model with global context.

        Yields:
            index of the first frame of a batch, and the posterior of the batch (only wanted frames).
        """
        n, _, h, w = photons.shape
        c = self.context
        photons, whole = self._filled(photons), field if field is None else self._filled(field[None, None])[0, 0]
        conditions = self._conditions(photons)
        batch = len(conditions)
        told = self.prepare(photons[:1], conditions[:1], whole)[1]
        held: Tensor | None = None  # features of the 2 c frames before those computed next, zeros outside of the movie
        first = max(0, keep[0] - c)
        last = min(n, keep[1] + c)
        for start in range(first, last + c, batch):
            with (
                torch.inference_mode(),
                torch.autocast(photons.device.type, dtype=torch.bfloat16, enabled=bfloat16_helps(photons.device)),
            ):
                held, joined = self._next(photons[start : min(start + batch, last)], conditions, held, whole)
                # joined holds the features of frames start-2c .. start+batch-1, from which the maps of start-c .. start+batch-c-1 follow
                lo, hi = max(keep[0], start - c), min(keep[1], start + batch - c)
                if lo >= hi:
                    continue
                parts = [joined[lo - start + i : hi - start + i] for i in range(c, 3 * c + 1)]
                if mean is not None:
                    parts.append(mean.to(joined.dtype).expand(hi - lo, -1, -1, -1))
                maps = self.net.fuse(parts, None if told is None else told.expand(hi - lo, -1))
            yield lo, self.posterior(maps[:, :, :h, :w], conditions[: hi - lo], field)

    def _filled(self, pixels: Tensor) -> Tensor:
        """Repeat the last row and column of (n, planes, h, w) until the sides suit the network."""
        bottom, right = (-side % self.align_px for side in pixels.shape[-2:])
        return functional.pad(pixels, (0, right, 0, bottom), mode="replicate") if bottom or right else pixels

    def _conditions(self, photons: Tensor) -> Tensor:
        """Give what the network is told of the frames of a batch, (batch, 4), as many as are computed at once: those it saw in training."""
        batch = max(1, BATCH_PX // (photons.shape[-2] * photons.shape[-1]))
        known = self.conditions if self.settings.conditioned else self.scales.reference
        return known.tensor(batch, photons.device)

    def _next(self, photons: Tensor, conditions: Tensor, held: Tensor | None, field: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the features of the next frames behind the held ones; dark ones before the movie's first frame and after its last."""
        n, c = len(photons), self.context
        parts = [] if held is None else [held]
        if n:
            features = self._features(photons, conditions, field)
            parts = [*(parts or [_dark(features, 2 * c)]), features]
        if n < len(conditions):
            parts.append(_dark(parts[0], c))
        joined = torch.cat(parts)
        return joined[len(joined) - 2 * c :], joined

    def _features(self, photons: Tensor, conditions: Tensor, field: Tensor | None) -> Tensor:
        """Compute the features of at most a batch of frames; a smaller one is filled up, so that each frame's do not depend on its size."""
        batch, n = len(conditions), len(photons)
        filled = photons if n == batch else torch.cat((photons, photons[-1:].expand(batch - n, -1, -1, -1)))
        image, told = self.prepare(filled, conditions, field)
        return self.net.frame_features(image, told)[:n]

    def look_over(self, frames: Iterable[Frames], tile_px: int = 512) -> None:
        """Average the features of frames from all over a movie; see `Localizer.look_over`."""
        self.overview = self._seen(frames, tile_px) if self.sees_all_frames else None

    def forget(self) -> None:
        """Forget the movie."""
        self.overview = None

    @torch.inference_mode()
    def _seen(self, blocks: Iterable[Frames], tile_px: int) -> Overview:
        """Average the features of frames."""
        seen: Overview | None = None
        for frames in blocks:
            if seen is None:
                seen = Overview(frames.shape_px, frames.origin_px, self.align_px, self.net.place_px)
            for tile in tiles(frames.shape_px, tile_px, self.halo_px, self.align_px):
                photons, field = self._part(frames, tile)
                photons, whole = self._filled(photons), field if field is None else self._filled(field[None, None])[0, 0]
                conditions = self._conditions(photons)
                with torch.autocast(photons.device.type, dtype=torch.bfloat16, enabled=bfloat16_helps(photons.device)):
                    for some in photons.split(len(conditions)):
                        seen.add(tile, self._features(some, conditions, whole))
            seen.count(len(frames))
        if seen is None:
            raise ModelError("no frame of the movie could be looked at, which a model with global context needs; check the movie")
        return seen

    def _part(self, frames: Frames, tile: Tile) -> tuple[Tensor, Tensor | None]:
        """Cut a tile out of frames: photons, and the uneven background where the network is told one."""
        uneven = frames.background if self.settings.conditioned else None
        return frames.photons[:, :, tile.outer[0], tile.outer[1]], None if uneven is None else uneven[tile.outer[0], tile.outer[1]]

    @torch.inference_mode()
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize; see `Localizer.forward`. The neighbours that are missing at the ends of the movie count as dark.

        Raises:
            ModelError: global context, and the frames lie elsewhere than those that were looked over.
        """
        first = frames.first_frame
        start, stop = (first, first + len(frames)) if keep is None else keep
        seen = self.overview or self._seen([frames], tile_px) if self.sees_all_frames else None
        if seen is not None and not seen.covers(frames.shape_px, frames.origin_px):
            raise ModelError(
                f"frames of {frames.shape_px} px at {frames.origin_px}, but the movie that was looked over has {seen.shape_px} px at "
                f"{seen.origin_px}; look over this one (look_over), or forget that one (forget)"
            )
        found: list[Candidates] = []
        for tile in tiles(frames.shape_px, tile_px, self.halo_px, self.align_px):
            part, field = self._part(frames, tile)
            origin = (frames.origin_px[0] + tile.outer[0].start, frames.origin_px[1] + tile.outer[1].start)
            mean = None if seen is None else seen.mean(tile.outer, frames.origin_px)
            for index, posterior in self.stream(part, (start - first, stop - first), field, mean):
                found.append(candidates(posterior, first + index, origin, tile.core_inside))
        return self.decode(Candidates.concat(found), frames.pixel_size_nm)


def _dark(like: Tensor, n: int) -> Tensor:
    """Make the features of n frames outside of the movie, laid out as the network gives them."""
    return torch.empty(n, *like.shape[1:], dtype=like.dtype, device=like.device, memory_format=torch.channels_last).zero_()
