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
from .posterior import PixelPosterior
from .tiles import tiles

CHANNELS = 10  # logit; x, y, z, log photons; their four standard deviations; background
DETECTION_BIAS = -6.0  # emitters are rare: start from few detections
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
    def is_told(self) -> bool:
        """Whether it is told the conditions of each movie, as the document says."""
        return self.conditioned

    def build(self, scales: Scales) -> Decode:
        """Make the localizer, untrained."""
        return Decode(self, scales)


# ---------------------------------------------------------------------------------------------------------------------- networks


class Residual(nn.Module):
    """``x + conv(relu(conv(relu(x))))``; begins as the identity."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(_bias(self.second))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, features, h, w)."""
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class Upsample(nn.Module):
    """Twice the size by the chosen way, from ``features`` to ``out`` channels.

    ICNR is a sub-pixel convolution that begins as nearest-neighbour enlargement. Source: Aitken et al., arXiv 1707.02937.
    """

    def __init__(self, features: int, out: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.mix = nn.Conv2d(features, 4 * out if how == "icnr" else out, 1)
        if how == "icnr":
            weight = torch.empty(out, features, 1, 1)
            nn.init.kaiming_normal_(weight)
            with torch.no_grad():
                self.mix.weight.copy_(weight.repeat_interleave(4, dim=0))
                _bias(self.mix).zero_()

    def forward(self, x: Tensor) -> Tensor:
        """From (n, features, h, w) to (n, out, 2 h, 2 w)."""
        if self.how == "icnr":
            return functional.pixel_shuffle(self.mix(x), 2)
        if self.how == "nearest":
            return self.mix(functional.interpolate(x, scale_factor=2, mode="nearest"))
        return functional.interpolate(self.mix(x), scale_factor=2, mode="bilinear", align_corners=False)


class HalfResolutionNet(nn.Module):
    """A trunk at half resolution: each 2 x 2 pixels become one place with four times the channels, and are parted again at the end.

    Args:
        planes: focal planes.
        sizes: features of one frame, of the joined frames, and one level down.
        upsampling: how the lower level comes back.
        conditions: number of condition values, 0 for none.
    """

    stride, halo = 4, 40

    def __init__(self, planes: int, sizes: tuple[int, int, int], upsampling: str, conditions: int) -> None:
        super().__init__()
        frame, joined, deep = sizes
        self.enter = nn.Conv2d(4 * planes, frame, 3, padding=1)
        self.frame_block = Residual(frame)
        self.join = nn.Conv2d(3 * frame, joined, 1)
        self.before = Residual(joined)
        self.down = nn.Conv2d(joined, deep, 3, stride=2, padding=1)
        self.deep_blocks = nn.Sequential(Residual(deep), Residual(deep))
        self.up = Upsample(deep, joined, upsampling)
        self.after = Residual(joined)
        self.leave = nn.Conv2d(joined, 4 * CHANNELS, 1)
        self.frame_film = _film(conditions, frame)
        self.join_film = _film(conditions, joined)
        _begin_heads(self.leave, 4)

    def frame_features(self, image: Tensor, conditions: Tensor | None) -> Tensor:
        """Look at each frame alone: (n, planes, h, w) to (n, frame, h / 2, w / 2)."""
        x = _modulate(self.enter(functional.pixel_unshuffle(image, 2)), self.frame_film, conditions)
        return functional.relu(self.frame_block(x))

    def fuse(self, before: Tensor, centre: Tensor, after: Tensor, conditions: Tensor | None) -> Tensor:
        """Join the features of three frames and give the maps (n, 10, h, w)."""
        x = self.before(_modulate(self.join(torch.cat((before, centre, after), 1)), self.join_film, conditions))
        x = self.after(x + self.up(self.deep_blocks(self.down(functional.relu(x)))))
        with torch.autocast(x.device.type, enabled=False):
            return functional.pixel_shuffle(self.leave(functional.relu(x).float()), 2)


class UNet(nn.Module):
    """Two levels down and up, two 3 x 3 convolutions a level, strided convolutions down, exponential linear units."""

    def __init__(self, channels: int, features: int, upsampling: str) -> None:
        super().__init__()
        f = features

        def pair(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1), nn.ELU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ELU()
            )

        self.level_0, self.level_1, self.bottom = pair(channels, f), pair(f, 2 * f), pair(2 * f, 4 * f)
        self.down_0, self.down_1 = nn.Conv2d(f, f, 2, stride=2), nn.Conv2d(2 * f, 2 * f, 2, stride=2)
        self.up_1, self.up_0 = Upsample(4 * f, 2 * f, upsampling), Upsample(2 * f, f, upsampling)
        self.back_1, self.back_0 = pair(4 * f, 2 * f), pair(2 * f, f)
        self.leave = nn.Conv2d(f, f, 1)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, channels, h, w) to (n, features, h, w)."""
        fine = self.level_0(x)
        middle = self.level_1(self.down_0(fine))
        coarse = self.bottom(self.down_1(middle))
        middle = self.back_1(torch.cat((self.up_1(coarse), middle), 1))
        return functional.elu(self.leave(self.back_0(torch.cat((self.up_0(middle), fine), 1))))


class StackedUNets(nn.Module):
    """The paper's network at full resolution: a U-net for each frame, a second one for three frames joined, a small head per kind of map.

    48 features with nearest up-sampling are the size of the later publication's reference settings: 2.2 million parameters.
    """

    stride, halo = 4, 80

    def __init__(self, planes: int, features: int, upsampling: str, conditions: int) -> None:
        super().__init__()
        self.frame_net = UNet(planes, features, upsampling)
        self.joint_net = UNet(3 * features, features, upsampling)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(features, features, 3, padding=1), nn.ELU(), nn.Conv2d(features, outputs, 1))
            for outputs in (1, 4, 4, 1)
        )
        self.frame_film = _film(conditions, features)
        self.join_film = _film(conditions, features)
        for head, start in zip(self.heads, (DETECTION_BIAS, 0.0, 0.0, 0.0), strict=True):
            nn.init.constant_(head.get_parameter("2.bias"), start)

    def frame_features(self, image: Tensor, conditions: Tensor | None) -> Tensor:
        """Look at each frame alone: (n, planes, h, w) to (n, features, h, w)."""
        return _modulate(self.frame_net(image), self.frame_film, conditions)

    def fuse(self, before: Tensor, centre: Tensor, after: Tensor, conditions: Tensor | None) -> Tensor:
        """Join the features of three frames and give the maps (n, 10, h, w)."""
        x = _modulate(self.joint_net(torch.cat((before, centre, after), 1)), self.join_film, conditions)
        return torch.cat([head(x) for head in self.heads], 1).float()


def _film(conditions: int, features: int) -> nn.Linear | None:
    """Make the layer that turns conditions into a factor and a shift per feature; it begins without effect."""
    if not conditions:
        return None
    film = nn.Linear(conditions, 2 * features)
    nn.init.zeros_(film.weight)
    nn.init.zeros_(film.bias)
    return film


def _modulate(x: Tensor, film: nn.Linear | None, conditions: Tensor | None) -> Tensor:
    if film is None or conditions is None:
        return x
    factor, shift = film(conditions)[:, :, None, None].to(x.dtype).chunk(2, 1)
    return x * (1 + factor) + shift


def _begin_heads(head: nn.Conv2d, copies: int) -> None:
    """Begin with rare detections and predictions near zero; ``copies`` channels belong to each map (pixel shuffle)."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(_bias(head))
    with torch.no_grad():
        _bias(head)[:copies] = DETECTION_BIAS


def _bias(layer: nn.Conv2d) -> Tensor:
    """Give the bias of a convolution that has one."""
    assert layer.bias is not None
    return layer.bias


def _noise(background: Tensor, excess: Tensor, variance: Tensor) -> Tensor:
    """Standard deviation of a pixel that holds background only, in photons."""
    return torch.sqrt(excess * background + variance + 0.1)


SIZES = {"tiny": (24, 40, 64), "small": (48, 64, 128), "medium": (64, 128, 192)}


# --------------------------------------------------------------------------------------------------------------------- localizer


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
        noise = _noise(level, excess[:, None, None, None], variance[:, None, None, None])
        u = (photons - level) / noise
        image = (torch.sign(u) * torch.log1p(u.abs())).contiguous(memory_format=torch.channels_last)
        if not self.settings.conditioned:
            return image, None
        typical = _noise(background, excess, variance).log() - 1.5
        told = torch.stack((typical, 2 * (excess - 1.5), variance.clamp(min=1e-3).log() / 4, 2 * torch.log(width / 1.3)), 1)
        return image, told

    def posterior(self, maps: Tensor, conditions: Tensor, field: Tensor | None = None) -> PixelPosterior:
        """Read the network's ten maps (n, 10, h, w) as a distribution; arguments as for `prepare`."""
        maps = maps.float()
        level, mean = conditions[:, 0, None, None], maps[:, 1:5]
        if field is not None:  # the network saw the emitters relative to the local noise
            background, excess, variance, _ = conditions[:1].unbind(1)
            brighter = torch.log(_noise(field, excess, variance) / _noise(background, excess, variance))
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


def bfloat16_helps(device: torch.device) -> bool:
    """Whether 16-bit arithmetic is native on the device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
