"""One look at real frames: sets of emitters drawn from the network, how well they explain the frames, and what network and theta learn
of it.

A set z drawn from the localizer's posterior weighs ``w = p(x | z) p(z) / q(z | x)``, and ``log mean w`` over K sets is a lower
bound of log p(x). Theta climbs log p(x, z), the network log q(z | x), at sets drawn anew by their weights. K times n frames are
rendered as one batch: set k of frame f is frame ``k n + f``.

In a crowded window no set of a few dozen is right everywhere. So the window is drawn zone by zone: K candidates of a zone, beside
what was chosen in the zones before it and the network's best guess in those after it, weigh the change of the likelihood; one is
chosen by its weight; and the product of the mean weights is an unbiased estimate of p(x), so that its logarithm is a lower bound
again. With one zone this is the importance-weighted bound of the paper.

Source: Speiser, Turaga, Macke 2019, section 1.6 (equations 16 to 19) and equations 11, 12 (consistency); Burda et al., arXiv
1509.00519; Bornschein and Bengio, arXiv 1406.2751. Ours: the zones, which are the filtering bound of Maddison et al., arXiv
1705.09279, over places in place of times; emitters near the edge of a window are taken as the network guesses them, because their
light is not all seen; and the consistency term compares a set with the neighbouring frames' posterior instead of another draw, so
that each frame has weights of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data import Grid
from ..localize import InferringLocalizer
from ..localize.draws import Draws, SetLaw, groups, single_pixels
from ..localize.posterior import PixelPosterior
from ..microscope import Microscope
from .theta import Theta

LIGHT_PX = 3  # rim of a window whose light is not explained: emitters beyond it shine in
REACH_WIDTHS, LEAST_REACH_PX, MOST_REACH_PX = 2.5, 2, 6
LEAST_ZONE_PX = 5
BATCH_NUMBERS = 1 << 23  # pixels of expected frames that are rendered at once


@dataclass(frozen=True)
class MovieWindows:
    """Windows of consecutive real frames.

    Args:
        photons: (b, t, planes, s, s) what the camera says, in photons.
        background: (b, 1, s, s) photons per pixel.
        conditions: (b, 4) what the localizer is told: background, excess, noise variance, PSF width in px.
        origin_nm: (b, 2) place (x, y) of the window's outer corner in the field.
    """

    photons: Tensor
    background: Tensor
    conditions: Tensor
    origin_nm: Tensor

    def __len__(self) -> int:
        return len(self.photons)

    def select(self, index: Tensor | slice) -> MovieWindows:
        """Take some windows."""
        return MovieWindows(*(part[index] for part in vars(self).values()))

    def to(self, device: torch.device | str) -> MovieWindows:
        """Move to a device."""
        return MovieWindows(*(part.to(device) for part in vars(self).values()))

    def inner(self, context: int) -> Tensor:
        """Give the inner frames (b (t - 2 c), planes, s, s)."""
        return self.photons[:, context : self.photons.shape[1] - context].flatten(0, 1)

    def grid(self, pixel_size_nm: tuple[float, float]) -> Grid:
        """Make the pixel raster of a window."""
        return Grid((self.photons.shape[-2], self.photons.shape[-1]), pixel_size_nm)


@dataclass(frozen=True)
class Noise:
    """Noise of the camera: ``excess mu + variance`` photons^2."""

    excess: float
    variance: float


@dataclass(frozen=True)
class Look:
    """What was seen in n inner frames.

    Args:
        posterior: of the network, with gradients.
        law: the law of the sets, without gradients.
        chosen: one set of each of l trials.
        log_weight: (l, n) of the trials.
        effective: effective number of candidates of a zone, 1 to K, on average.
        frames: (n, planes, s, s) photons.
        level: (n, 1, s, s) measured background.
        origin_nm: (n, 2) of the windows in the field.
    """

    posterior: PixelPosterior
    law: SetLaw
    chosen: Draws
    log_weight: Tensor
    effective: float
    frames: Tensor
    level: Tensor
    origin_nm: Tensor

    @property
    def bound(self) -> Tensor:
        """(n,) lower bound of each frame's log-likelihood."""
        return torch.logsumexp(self.log_weight, 0) - math.log(len(self.log_weight))


class Waking:
    """Looks at windows of a movie with a localizer and a theta.

    Args:
        localizer: of the DECODE family.
        theta: the generative parameters.
        microscope: with theta's PSF, on the windows' grid.
        noise: of the camera.
        width_px: size of the PSF in focus.
        consistency: weight of the squared differences of places in consecutive frames.
        zoned: draw zone by zone; else the whole window at once, as in the paper.
    """

    def __init__(
        self,
        localizer: InferringLocalizer,
        theta: Theta,
        microscope: Microscope,
        noise: Noise,
        width_px: float,
        *,
        consistency: float = 1.0,
        zoned: bool = True,
    ) -> None:
        self.localizer, self.theta, self.microscope, self.consistency = localizer, theta, microscope, consistency
        self.noise = noise
        settings = getattr(localizer, "settings", None)
        self.per_pixel = getattr(settings, "objective", "mixture") == "per_pixel"
        side = microscope.grid.shape_px[0]
        reach = min(MOST_REACH_PX, max(LEAST_REACH_PX, math.ceil(REACH_WIDTHS * width_px)))
        rim = min(LIGHT_PX + reach, (side - 2) // 2)
        light = min(LIGHT_PX, rim - 1)
        self.light, self.free, self.taught = (slice(r, side - r) for r in (light, rim, min(rim + 1, (side - 1) // 2)))
        self.zone, self.colours, self.regions = _zones(side, rim, light, reach, zoned)

    # ------------------------------------------------------------------------------------------------------------------------ a look

    def look(self, windows: MovieWindows, k: int, generator: torch.Generator, trials: int = 2) -> Look:
        """Draw and weigh sets for each inner frame; gradients are kept in the posterior alone.

        Args:
            windows: of the movie.
            k: sets in all; each trial has ``k / trials`` candidates for each zone.
            generator: source of randomness.
            trials: independent sets chosen for each frame.
        """
        context = self.localizer.context
        posterior = self.localizer.posterior_of_windows(windows.photons, windows.conditions)
        names = ("logit", "mean", "sigma", "background")
        still = replace(posterior, **{name: getattr(posterior, name).detach() for name in names})
        inner = windows.photons.shape[1] - 2 * context
        frames = windows.inner(context)
        level, origin = (part.repeat_interleave(inner, 0) for part in (windows.background, windows.origin_nm))
        with torch.no_grad():
            head = single_pixels(still) if self.per_pixel else groups(still)
            law = SetLaw(still, head, self.zone.to(frames.device))
            each = max(1, k // trials)
            draws = law.draw(each * trials, generator)
            look = Look(posterior, law, draws, frames.new_zeros(trials, len(frames)), 0.0, frames, level, origin)
            extra = self.theta.log_prior(law, draws) - law.log_prob(draws) - self._disagreement(law, draws, inner)
            tried = [
                self._trial(look, draws.sets(each * i, each * (i + 1)), extra[each * i : each * (i + 1)], generator)
                for i in range(trials)
            ]
        chosen = Draws.concat([replace(one[0], k=trials, row=one[0].row + i * law.shape[0]) for i, one in enumerate(tried)])
        weight, effective = torch.stack([one[1] for one in tried]), sum(one[2] for one in tried) / trials
        return replace(look, chosen=chosen, log_weight=weight, effective=effective)

    def _trial(self, look: Look, draws: Draws, extra: Tensor, generator: torch.Generator) -> tuple[Draws, Tensor, float]:
        """Choose one set zone by zone; gives it, its log-weight (n,), and the mean effective number of candidates."""
        law, n = look.law, draws.n
        state = law.fixed()
        level = self._level(look)
        before = self._by_region(look, self._rendered(look, level, state), 0)[0]
        bound = before.sum(-1)
        effective = []
        for colour, own in enumerate(self.colours):
            zones = own.to(law.zone.device)
            before = self._by_region(look, self._rendered(look, level, state), colour)[0]
            kept = state.select(~torch.isin(law.zone[state.head], zones))
            mine = draws.select(torch.isin(law.zone[draws.head], zones))
            base = self._rendered(look, level, kept)
            after = self._many(look, base, mine, colour)  # (k, n, zones of this colour)
            weight = torch.nan_to_num(after - before + extra[:, :, zones], nan=-1e30, posinf=-1e30)
            bound = bound + (torch.logsumexp(weight, 0) - math.log(draws.k)).sum(-1)
            share = torch.softmax(weight, 0)
            effective.append(float((1 / share.square().sum(0)).mean()))
            pick = torch.multinomial(share.permute(1, 2, 0).reshape(-1, draws.k), 1, generator=generator).reshape(n, len(zones))
            slot = torch.searchsorted(zones, law.zone[mine.head])
            taken = mine.select(mine.row // n == pick[mine.row % n, slot])
            state = Draws.concat([kept, Draws(1, n, taken.row % n, taken.head, taken.value)])
        return state, bound, sum(effective) / len(effective)

    def _many(self, look: Look, base: Tensor, draws: Draws, colour: int) -> Tensor:
        """Log-likelihoods (k, n, regions) of many sets, each on top of the same frames."""
        step = max(1, BATCH_NUMBERS // max(1, base.numel()))
        found = []
        for first in range(0, draws.k, step):
            part = draws.sets(first, min(first + step, draws.k))
            found.append(self._by_region(look, self._rendered(look, _copies(base, part.k), part), colour))
        return torch.cat(found)

    def _level(self, look: Look) -> Tensor:
        """Background (n, planes, s, s) by theta."""
        return (look.level * self.theta.log_background.exp()).expand(-1, look.frames.shape[1], -1, -1)

    def _rendered(self, look: Look, level: Tensor, draws: Draws) -> Tensor:
        """Put the light of k sets on frames (k n, planes, s, s)."""
        emitters = look.law.emitters(draws)
        place = look.origin_nm[emitters.frame % draws.n] if self.microscope.psf.varies_in_field else None
        return self.microscope.expected(emitters, level, origin_nm=place)

    def _by_region(self, look: Look, expected: Tensor, colour: int) -> Tensor:
        """Log-likelihood (k, n, regions) of k sets for the frames, in the regions around the zones of a colour."""
        n = len(look.frames)
        each = self._log_likelihood(look, expected)
        region = self.regions[colour].to(each.device)
        count = int(region.max()) + 1
        if count == 1:
            total = each.flatten(1).sum(1)[:, None]
        else:
            total = each.new_zeros(len(each), count).index_add(1, region.flatten(), each.sum(1).flatten(1))
        return total.reshape(-1, n, count)

    def _log_likelihood(self, look: Look, expected: Tensor) -> Tensor:
        """Log-likelihood (k n, planes, rows, columns) of the pixels whose light is explained."""
        cut = (..., self.light, self.light)
        photons = _copies(look.frames, len(expected) // len(look.frames))[cut]
        excess, variance = (torch.tensor(v, device=photons.device) for v in (self.noise.excess, self.noise.variance))
        return self.theta.log_likelihood(photons, expected[cut], excess, variance)

    def _disagreement(self, law: SetLaw, draws: Draws, inner: int) -> Tensor:
        """Weighted squared differences (k, n, zones) of place between drawn emitters and the neighbouring frames' ones in the same pixel."""
        posterior = law.posterior
        n, h, w = posterior.logit.shape
        frame = draws.row % n
        column, row = (draws.value[:, i].round().long().clamp(0, side - 1) for i, side in ((0, w), (1, h)))
        zero = torch.zeros_like(draws.value[:, 0])
        away = draws.value[:, :3] - torch.stack((column, row, zero), -1)
        used = 3 if posterior.z_unit_nm else 2
        total = zero
        for step in (-1, 1):
            there = (frame % inner + step >= 0) & (frame % inner + step < inner)
            other = (frame + step).clamp(0, n - 1)
            square = (away - posterior.mean[other, :3, row, column])[:, :used].square().sum(1)
            total = total + there * posterior.probability[other, row, column] * square
        return law.by_zone(draws, self.consistency * total)

    # ---------------------------------------------------------------------------------------------------------------------- learning

    def again(self, look: Look, generator: torch.Generator) -> Draws:
        """Draw as many of the chosen sets anew, each by its weight."""
        share = torch.softmax(look.log_weight, 0).T
        chosen, n = look.chosen, look.chosen.n
        picks = torch.multinomial(share, chosen.k, replacement=True, generator=generator)
        which, times = torch.nonzero((chosen.row // n)[:, None] == picks[chosen.row % n], as_tuple=True)
        return Draws(chosen.k, n, times * n + chosen.row[which] % n, chosen.head[which], chosen.value[which])

    def theta_loss(self, look: Look, chosen: Draws) -> Tensor:
        """Give minus the mean of log p(x, z) over chosen sets, per frame; differentiable in theta."""
        expected = self._rendered(look, _copies(self._level(look), chosen.k), chosen)
        likelihood = self._log_likelihood(look, expected).sum() / (chosen.k * chosen.n)
        free = chosen.select(look.law.zone[chosen.head] >= 0)
        return -likelihood - self.theta.log_prior(look.law, free).sum(-1).mean()

    def network_loss(self, look: Look, chosen: Draws) -> Tensor:
        """Give minus the mean of log q(z | x) over chosen sets, per frame and emitter, in the form of the localizer's own objective."""
        posterior = look.posterior
        if self.per_pixel:
            free = chosen.select(look.law.zone[chosen.head] >= 0)
            law = SetLaw(posterior, look.law.head, look.law.zone.reshape(posterior.logit.shape)[0])
            return -law.log_prob(free).sum(-1).mean() / max(1.0, len(free) / (free.k * free.n))
        first, last, _ = self.taught.indices(posterior.logit.shape[-1])
        column, row = chosen.value[:, 0].round(), chosen.value[:, 1].round()
        kept = chosen.select((row >= first) & (row < last) & (column >= first) & (column < last))
        y_nm, x_nm = posterior.pixel_size_nm
        emitters = look.law.emitters(kept).shifted(-first * x_nm, -first * y_nm)
        cut = (..., self.taught, self.taught)
        maps = (posterior.logit, posterior.mean, posterior.sigma, posterior.background)
        logit, mean, sigma, background = (_copies(one[cut], kept.k) for one in maps)
        inside = replace(posterior, logit=logit, mean=mean, sigma=sigma, background=background)
        return -inside.log_prob(emitters).mean() / max(1.0, len(kept) / (kept.k * kept.n))


def _copies(frames: Tensor, k: int) -> Tensor:
    """Repeat n frames k times: (k n, ...)."""
    return frames.expand(k, *frames.shape).reshape(-1, *frames.shape[1:]) if k > 1 else frames


def _zones(side: int, rim: int, light: int, reach: int, zoned: bool) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Part the inside of a window in zones; zones of one colour are so far apart that their light does not meet.

    Returns:
        zone of each pixel (side, side), -1 in the rim; zones of each colour; and for each colour the nearest of its zones, as an index
        into them, for each pixel that is explained.
    """
    inside = side - 2 * rim
    across = max(1, inside // max(2 * reach, LEAST_ZONE_PX)) if zoned else 1
    strip = torch.div(torch.arange(inside) * across, inside, rounding_mode="floor")
    zone = torch.full((side, side), -1)
    zone[rim : side - rim, rim : side - rim] = strip[:, None] * across + strip
    rows, columns = torch.arange(across**2) // across, torch.arange(across**2) % across
    colours = [torch.nonzero((rows % 2 == i) & (columns % 2 == j))[:, 0] for i in (0, 1) for j in (0, 1)]
    colours = [zones for zones in colours if len(zones)]
    regions = []
    for zones in colours:
        away = []
        for one in zones.tolist():
            at = torch.nonzero(zone == one)
            low, high = at.amin(0), at.amax(0)
            pixel = torch.stack(
                torch.meshgrid(torch.arange(light, side - light), torch.arange(light, side - light), indexing="ij"), -1
            )
            away.append(torch.maximum(low - pixel, pixel - high).clamp(min=0).amax(-1))
        regions.append(torch.stack(away).argmin(0))
    return zone, colours, regions
