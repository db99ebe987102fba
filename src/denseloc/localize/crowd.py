"""Emitters of frames whose images overlap: find them, fit them together, look for more in what is left, take away those that do not pay.

New emitters are the maxima of a matched filter over the residual; each begins with a fit of its own in what the others have left. All are then
fitted jointly (`fit.joint`). An emitter stays if leaving it out lowers the likelihood by more than chance would: twice the difference is compared
with a chi-squared law of as many degrees of freedom as it has parameters, at a stated rate of false positives.

Source: Holden, Uphoff, Kapanidis, Nature Methods 8 (2011) 279 and Babcock, Sigal, Zhuang, Optical Nanoscopy 1 (2012) 6 (find, fit,
subtract, find again); Huang et al., Biomedical Optics Express 2 (2011) 1377 (the number of emitters by likelihood).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.stats import chi2
from torch import Tensor

from ..data import Frames
from ..fit import Noise, fit_single
from ..fit.groups import neighbours
from ..fit.joint import Joint
from ..fit.joint_fits import JointFits, Prior
from ..fit.start import depth_starts
from ..optics import PSF
from .single import Matched, filled, ghosts, maxima, windows

LEVELS = (4.0, 2.0, 1.0, 1.0, 1.0)
"""Significances, over the one asked for, at which the residual is searched, one after the other: bright emitters first."""

CLOSE = 2.0  # PSF widths within which emitters are suspected to be one
SURE = 12.0  # photons over their standard deviation from which on a lone emitter is not questioned
MOST_ROUNDS = 6  # of taking away
ROUGH: dict[str, Any] = {"tolerance": 0.03, "max_iterations": 15}
"""How well is fitted while emitters come and go: to a sixth of a standard deviation."""

APART = 0.7  # PSF widths that a new emitter keeps from others: nearer, the residual is more likely a fault of the PSF


@dataclass(frozen=True)
class Decision:
    """Why an emitter is there, or not any more.

    Args:
        frame: number of the frame.
        x_nm, y_nm: where.
        what: "added", "removed", "merged" (removed beside another one within two widths) or "not converged".
        statistic: significance of an added one, twice the difference of the log-likelihoods of a removed one.
        threshold: what it was compared with.
    """

    frame: int
    x_nm: float
    y_nm: float
    what: str
    statistic: float
    threshold: float


@dataclass(frozen=True)
class CrowdSettings:
    """How emitters are sought.

    Args:
        window_px: odd side of the square of pixels that tell of an emitter.
        reach_px: how far one may move from where it starts.
        distance_px: least distance of two new ones.
        width_px: of the PSF in focus.
        z_range_nm: depths allowed.
        significance: least height of a maximum over the noise of its filter.
        false_positive_rate: chance that an emitter which is not there stays, at one place; a whole frame has many.
        most: emitters fitted together.
        slope: whether the background around a group may slope.
    """

    window_px: int
    reach_px: float
    distance_px: int
    width_px: float
    z_range_nm: tuple[float, float]
    significance: float = 5.0
    false_positive_rate: float = 1e-3
    most: int = 8
    slope: bool = False


@dataclass
class Crowd:
    """The emitters of frames, while they are sought."""

    frames: Frames
    psf: PSF
    noise: Noise
    settings: CrowdSettings
    depth: bool
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        frames, settings = self.frames, self.settings
        variance = self.noise.variance if frames.variance is None else frames.variance
        self.noise = Noise(self.noise.excess, variance)
        self.joint = Joint(
            self.psf,
            frames.photons,
            self.noise,
            window_px=settings.window_px,
            depth=self.depth,
            z_range_nm=settings.z_range_nm,
            reach_px=settings.reach_px,
            most=settings.most,
            slope=settings.slope,
            origin_px=frames.origin_px,
        )
        depths = depth_starts(self.joint.psf, settings.z_range_nm) if self.depth else torch.zeros(1)
        self.depths = depths
        self.spacing = max(settings.distance_px, ghosts(self.joint.psf, depths))

    def none(self) -> JointFits:
        """Give fits without rows."""
        photons = self.frames.photons
        c = self.joint.n_coordinates + 1
        frame = torch.zeros(0, dtype=torch.long, device=photons.device)
        return JointFits.beginning(frame, photons.new_zeros(0, c), photons.new_zeros(0, photons.shape[1]))

    def grow(self, fits: JointFits, part: tuple[int, int], prior: Prior | None = None) -> JointFits:
        """Look for more emitters in frames ``part``, the brightest first, until none is found.

        A prior is that of the rows given; new ones have none.
        """
        for level in LEVELS:
            found = self._new(fits, part, level * self.settings.significance)
            if len(found) == 0 and level == 1.0:
                break
            if len(found) == 0:
                continue
            prior = None if prior is None else prior.lengthened(found)
            fresh = torch.cat((torch.zeros_like(fits.converged), torch.ones_like(found.converged)))
            fits = self.joint.fit(JointFits.concat((fits, found)), prior, fresh=fresh, sweeps=2, **ROUGH)
        return fits

    def _new(self, fits: JointFits, part: tuple[int, int], level: float) -> JointFits:
        """Find emitters in what the others leave, each fitted alone."""
        frames, photons = self.frames, self.frames.photons
        light = self.joint.light(fits.frame, fits.at)
        still = self.noise.variance
        variance = (still if isinstance(still, Tensor) else torch.tensor(float(still))).to(photons).expand(photons.shape)
        variance = variance + self.noise.excess * light
        left = Frames(filled(photons) - light, frames.pixel_size_nm, variance=variance, origin_px=frames.origin_px)
        matched = Matched(self.joint.psf, self.depths, self.settings.window_px, left, self.noise)
        peaks, heights = [torch.zeros(0, 3, dtype=torch.long, device=photons.device)], [photons.new_zeros(0)]
        for index in range(*part):
            score = matched.significance(index)
            places = maxima(score, level, self.spacing)
            peaks.append(torch.cat((torch.full_like(places[:, :1], index), places), 1))
            heights.append(score[places[:, 0], places[:, 1]])
        peak, height = torch.cat(peaks), torch.cat(heights)
        begun = self._alone(photons - light, variance, peak)
        good = self._apart(begun, fits) & torch.isfinite(begun.at).all(1) & (begun.at[:, -1] > 1.0)
        self._note(begun.frame[good], begun.at[good], "added", height[good], level)
        return begun.select(good)

    def _alone(self, left: Tensor, variance: Tensor, peaks: Tensor) -> JointFits:
        """Fit one emitter to each peak (n, 3) in what the others have left."""
        size = self.settings.window_px
        corner = peaks[:, 1:].flip(1) - size // 2
        origin = corner + torch.tensor(self.frames.origin_px[::-1], device=corner.device)
        found = fit_single(
            self.psf,
            windows(left, peaks, size),
            excess=self.noise.excess,
            noise_variance=windows(variance, peaks, size, fill=0.0),
            depth=self.depth,
            z_range_nm=self.settings.z_range_nm,
            z_starts_nm=self.depths,
            reach_px=self.settings.reach_px,
            origin_nm=origin * self.joint.pixel.to(left),
        )
        columns = [
            found["x_nm"] / self.joint.pixel[0] - 0.5 + corner[:, 0],
            found["y_nm"] / self.joint.pixel[1] - 0.5 + corner[:, 1],
        ]
        columns += [found["z_nm"]] if self.depth else []
        lights = [found[name] for name in found.names if name.startswith("background")]
        return JointFits.beginning(peaks[:, 0], torch.stack([*columns, found["photons"]], 1), torch.stack(lights, 1))

    def _apart(self, begun: JointFits, fits: JointFits) -> Tensor:
        """Say which new emitters are far enough from those there are, and lie in the field."""
        h, w = self.joint.shape_px
        x, y = begun.at[:, 0], begun.at[:, 1]
        good = (x >= -0.5) & (x <= w - 0.5) & (y >= -0.5) & (y <= h - 0.5)
        both = torch.cat((begun.at[:, :2], fits.at[:, :2])).nan_to_num(nan=-1.0)
        frame = torch.cat((begun.frame, fits.frame))
        pairs = torch.from_numpy(neighbours(frame.cpu().numpy(), both.cpu().numpy(), APART * self.settings.width_px))
        pairs = pairs.to(good.device)
        near = pairs[(pairs[:, 0] < len(begun)) & (pairs[:, 1] >= len(begun)), 0]
        good[near] = False
        return good

    def prune(self, fits: JointFits, prior: Prior | None = None) -> tuple[JointFits, Tensor]:
        """Take away emitters that the likelihood does not pay for, one of a group at a time; gives the rest, and which rows they were."""
        row = torch.arange(len(fits), device=fits.at.device)
        settings = self.settings
        dof = self.joint.n_coordinates + 1
        threshold = float(chi2.isf(settings.false_positive_rate, dof))
        cleared = torch.zeros_like(fits.converged)
        for _ in range(MOST_ROUNDS):
            asked, close = self._suspects(fits, cleared)
            if len(asked) == 0:
                break
            statistic = 2 * self.joint.lost_without(fits, asked, prior)
            gone = ~(statistic >= threshold)  # also where it is not a number
            cleared[asked[~gone]] = True
            if not bool(gone.any()):
                continue
            for what, some in (("merged", gone & close[asked]), ("removed", gone & ~close[asked])):
                self._note(fits.frame[asked[some]], fits.at[asked[some]], what, statistic[some], threshold)
            keep = torch.ones_like(fits.converged)
            keep[asked[gone]] = False
            hit = torch.zeros(int(fits.group.max()) + 1, dtype=torch.bool, device=keep.device)
            hit[fits.group[asked[gone]]] = True
            fresh = hit[fits.group][keep]
            cleared = cleared[keep] & ~fresh
            prior = None if prior is None else prior.select(keep)
            fits, row = fits.select(keep), row[keep]
            if len(fits) and bool(fresh.any()):
                fits = self.joint.fit(fits, prior, fresh=fresh, sweeps=1, **ROUGH)
        return fits, row

    def _suspects(self, fits: JointFits, cleared: Tensor) -> tuple[Tensor, Tensor]:
        """Give the least certain emitter of each group that may not be one, and which emitters have another one close by."""
        close = torch.zeros_like(fits.converged)
        pairs = neighbours(fits.frame.cpu().numpy(), fits.at[:, :2].cpu().numpy(), CLOSE * self.settings.width_px)
        close[torch.from_numpy(pairs).flatten().to(close.device)] = True
        sure = fits.at[:, -1] / fits.covariance[:, -1, -1].sqrt()
        sure = torch.where(torch.isfinite(sure), sure, torch.zeros_like(sure))
        doubtful = (close | (sure < SURE) | ~fits.converged) & ~cleared
        index = torch.nonzero(doubtful)[:, 0]
        order = index[sure[index].argsort(stable=True)]
        order = order[fits.group[order].argsort(stable=True)]
        own = fits.group[order]
        first = torch.ones_like(own, dtype=torch.bool)
        first[1:] = own[1:] != own[:-1]
        return order[first], close

    def settled(self, fits: JointFits, prior: Prior | None = None) -> JointFits:
        """Fit all to the end; those that do not converge even so are left out, and noted."""
        if len(fits):
            fits = self.joint.fit(fits, prior)
        return self.left(fits, fits.converged)

    def left(self, fits: JointFits, stay: Tensor) -> JointFits:
        """Give the rows that stay; the others are noted as not converged."""
        lost = ~stay
        nothing = torch.full((int(lost.sum()),), float("nan"))
        self._note(fits.frame[lost], fits.at[lost], "not converged", nothing, float("nan"))
        return fits.select(stay)

    def _note(self, frame: Tensor, at: Tensor, what: str, statistic: Tensor, threshold: float) -> None:
        places = (at[:, :2] + 0.5 + self.joint.origin) * self.joint.pixel
        rows = zip((frame + self.frames.first_frame).tolist(), places.tolist(), statistic.tolist(), strict=True)
        self.decisions += [Decision(number, x, y, what, value, threshold) for number, (x, y), value in rows]
