"""Many emitters at once: those whose images overlap are fitted together, on the union of their windows, with a background of their own.

Emitters near one another form groups (`groups.group`). Each group is one problem of `levenberg.climb`: x, y, [depth,] photons of its
emitters and the level (and slope) of the background around them. What the other emitters of the frame shine into its pixels is taken as known
and renewed in sweeps, so that also crowds without end are fitted: a group that was too large and has been cut is a block of coordinates.

A Gaussian prior on the coordinates makes it a maximum a posteriori fit; so positions seen in neighbouring frames come in.

Source: Huang, Schwartz, Byars, Lidke, Biomedical Optics Express 2 (2011) 1377 (joint fits of several emitters by maximum likelihood).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.splat import naive as splat
from ..kernels.spot_score import score_groups
from ..kernels.spot_score.groups_naive import planes_of_light
from ..kernels.spot_score.naive import placed
from ..optics import PSF
from .deviance import deviance, expected_moments, p_value
from .drawing import DEPTHS_NM, LANES, Third, draw, frozen, number_type, patches, split
from .fisher import invert
from .groups import group, neighbours, turns
from .levenberg import Climb, Limits, climb
from .noise import Noise

LEAST_PHOTONS, LEAST_BACKGROUND = 1e-2, 1e-3
CHUNK = 1 << 22  # numbers held at once for the windows and patches of one bucket
SETTLED_PX, SETTLED_NM, SETTLED_LIGHT = 0.005, 1.5, 0.005  # changes below which a neighbour's light counts as known
KINK = 30.0  # see `levenberg.climb`
AT_ONCE = 4096  # emitters drawn at once


@dataclass(frozen=True)
class Prior:
    """What is known of the coordinates beforehand.

    Args:
        mean: (n, 2 or 3) x, y in px of the frame and depth in nm.
        precision: (n, 2 or 3) inverse variances in the same units; 0 for nothing known.
    """

    mean: Tensor
    precision: Tensor

    def select(self, keep: Tensor) -> Prior:
        """Take the rows of a mask or of an index."""
        return Prior(self.mean[keep], self.precision[keep])

    def lengthened(self, more: JointFits) -> Prior:
        """Add rows of which nothing is known."""
        mean = more.at[:, : self.mean.shape[1]].to(self.mean)
        return Prior(torch.cat((self.mean, mean)), torch.cat((self.precision, torch.zeros_like(mean))))


@dataclass(frozen=True)
class JointFits:
    """Estimates of n emitters, in px of the frames (pixel centres on the integers), nm of depth and photons.

    Args:
        frame: (n,) index of the frame.
        at: (n, c) x, y, [depth,] photons, float64.
        covariance: (n, c, c) of an emitter's own parameters, with those of its group free; infinite where they cannot be told apart.
        fisher: (n, c, c) what its own pixels tell of it if all else is known, without the prior.
        background: (n, planes) level at the emitter.
        group: (n,) number of its group.
        pixel: (n, 2) x, y of the pixel in the middle of the window that it was fitted in, int64; not always that on which it has ended.
        log_likelihood, deviance_ratio, p_value: (n,) of its group's pixels, as in `single.SingleFits`.
        iterations: (n,) evaluations of its group in the last sweep.
        converged: (n,) at a maximum inside of the limits; the other rows must not be used.
    """

    frame: Tensor
    at: Tensor
    covariance: Tensor
    fisher: Tensor
    background: Tensor
    group: Tensor
    pixel: Tensor
    log_likelihood: Tensor
    deviance_ratio: Tensor
    p_value: Tensor
    iterations: Tensor
    converged: Tensor

    def __len__(self) -> int:
        return len(self.at)

    def select(self, keep: Tensor) -> JointFits:
        """Take the rows of a mask or of an index."""
        return JointFits(**{name: values[keep] for name, values in vars(self).items()})

    @staticmethod
    def concat(parts: Sequence[JointFits]) -> JointFits:
        """Join fits to the same frames; the numbers of the groups mean nothing between parts."""
        return JointFits(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})

    @staticmethod
    def beginning(frame: Tensor, at: Tensor, background: Tensor) -> JointFits:
        """Make rows that nothing is known of but where their fit is to begin.

        Args:
            frame: (n,) int64 index of each emitter's frame.
            at: (n, c) x, y in px, [depth in nm,] photons.
            background: (n, planes) photons per pixel.
        """
        n, c = at.shape
        square = torch.full((n, c, c), float("inf"), dtype=torch.float64, device=at.device)
        number = torch.full((n,), float("nan"), dtype=torch.float64, device=at.device)
        whole = torch.zeros(n, dtype=torch.long, device=at.device)
        return JointFits(
            frame,
            at.double(),
            square,
            torch.zeros_like(square),
            background.double(),
            whole,
            at[:, :2].round().long(),
            number,
            number,
            number,
            whole,
            torch.zeros(n, dtype=torch.bool, device=at.device),
        )


class Joint:
    """Fits of many emitters to the same frames.

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

    # ------------------------------------------------------------------------------------------------------------ drawing

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

    # ------------------------------------------------------------------------------------------------------------ fitting

    def fit(
        self,
        begin: JointFits,
        prior: Prior | None = None,
        *,
        fresh: Tensor | None = None,
        sweeps: int = 4,
        tolerance: float = 1e-3,
        max_iterations: int = 40,
    ) -> JointFits:
        """Fit emitters.

        Args:
            begin: where to begin, as `JointFits.beginning` or an earlier fit gives it.
            prior: what is known beforehand.
            fresh: (n,) which of them are new: only their groups, and those into which their light falls, are fitted. All if None.
            sweeps: how often the light of other groups is renewed, at most.
            tolerance, max_iterations: of `levenberg.climb`.
        """
        state = _copy(begin)
        frame, start = begin.frame, begin.at
        label, renew = self._regrouped(begin, fresh)
        state.group.copy_(label)
        groups = _members(state.group)
        near = neighbours(frame.cpu().numpy(), start[:, :2].cpu().numpy(), self.half + 0.5)
        turn = torch.from_numpy(turns(label.cpu().numpy(), near)).to(label)
        moved = torch.ones_like(begin.converged) if fresh is None else renew
        for sweep in range(max(1, sweeps)):
            renewed = groups if fresh is None and sweep == 0 else self._touched(state, moved, groups, own=sweep == 0)
            if not renewed:
                break
            before = state.at.clone()
            for k in range(int(turn.max()) + 1):
                light = self.light(frame, state.at)
                now = [members[turn[label[members[:, 0]]] == k] for members in renewed]
                for some in (part for members in now if len(members) for part in self._chunks(members, state.at)):
                    problem = _Problem(self, some, start, light, state, prior)
                    self._climb(problem, state, tolerance, max_iterations)
            shift = (state.at - before).abs()
            deeper = (shift[:, 2:-1] > SETTLED_NM).any(1)
            moved = (shift[:, :2] > SETTLED_PX).any(1) | deeper | (shift[:, -1] > SETTLED_LIGHT * before[:, -1].abs())
        return state

    def lost_without(self, fits: JointFits, which: Tensor, prior: Prior | None = None) -> Tensor:
        """Give how much the log-likelihood of groups falls when one emitter of each is left out and the others find new places.

        Both are fitted here, on the same pixels and beside the same light of other groups, which may have changed since ``fits``.

        Args:
            fits: as `fit` gives them.
            which: (m,) indices of the emitters left out, one of a group.
            prior: as in `fit`.

        Returns:
            (m,) float64.
        """
        result = torch.full((len(which),), float("nan"), dtype=torch.float64, device=which.device)
        light = self.light(fits.frame, fits.at)
        number = torch.full((int(fits.group.max()) + 1 if len(fits) else 0,), -1, device=which.device)
        number[fits.group[which]] = torch.arange(len(which), device=which.device)
        for members in _members(fits.group):
            asked = members[number[fits.group[members[:, 0]]] >= 0]
            for some in self._chunks(asked, fits.at) if len(asked) else []:
                row = number[fits.group[some[:, 0]]]
                ghost = which[row]
                others = some[some != ghost[:, None]].reshape(len(some), -1)
                whole = _Problem(self, some, fits.at, light, fits, prior, around=some)
                less = _Problem(self, others, fits.at, light, fits, prior, around=torch.cat((others, ghost[:, None]), 1))
                result[row] = self._likelihood(whole) - self._likelihood(less)
        return result

    def _likelihood(self, problem: _Problem) -> Tensor:
        """Give the log-likelihood of groups where a short fit ends, (m,)."""
        found = self._climb(problem, None, 0.03, 15)
        emitters, lights = problem.split(torch.arange(problem.m, device=found.at.device), found.at)
        return problem.agreement(emitters, lights, found.at.shape[1])[0]

    def _regrouped(self, begin: JointFits, fresh: Tensor | None) -> tuple[Tensor, Tensor]:
        """Group the emitters of the frames in which some are new; those of the others stay in their groups, which their fits speak of.

        Returns:
            (n,) numbers of the groups, and (n,) which emitters are new or have other companions than they were fitted with.
        """
        found = group(begin.frame.cpu().numpy(), begin.at[:, :2].cpu().numpy(), self.half + 0.5, self.most)
        label = torch.from_numpy(found).to(begin.group)
        if fresh is None or len(begin) == 0:
            return label, torch.ones_like(begin.converged)
        there = torch.zeros(int(begin.frame.max()) + 1, dtype=torch.bool, device=label.device)
        there[begin.frame[fresh]] = True
        here = there[begin.frame]
        mixed = torch.where(here, label, len(label) + begin.group).unique(return_inverse=True)[1]
        most = int(begin.group.max()) + 1
        former = torch.where(fresh, most, begin.group)
        _, pair, companions = (mixed * (most + 1) + former).unique(return_inverse=True, return_counts=True)
        alike = companions[pair]  # that were with it before and are now
        mismatch = (alike != torch.bincount(mixed)[mixed]) | (alike != torch.bincount(former)[former])
        return mixed, fresh | (here & mismatch)

    def _touched(self, state: JointFits, moved: Tensor, groups: list[Tensor], own: bool) -> list[Tensor]:
        """Give the groups, those of one size together as (m, e), into whose pixels an emitter of another one has moved its light.

        ``own``: also those to which a moved emitter belongs.
        """
        reach = float(self.half + self.psf.roi_px // 2 + 1)
        pairs = torch.from_numpy(neighbours(state.frame.cpu().numpy(), state.at[:, :2].cpu().numpy(), reach)).to(moved.device)
        one, other = torch.cat((pairs, pairs.flip(1))).unbind(1)
        reached = one[moved[other] & (state.group[one] != state.group[other])]
        touched = torch.zeros(int(state.group.max()) + 1, dtype=torch.bool, device=moved.device)
        touched[state.group[reached]] = True
        if own:
            touched[state.group[moved]] = True
        kept = [members[touched[state.group[members[:, 0]]]] for members in groups]
        return [members for members in kept if len(members)]

    def _chunks(self, members: Tensor, at: Tensor) -> list[Tensor]:
        """Cut groups of one size (m, e) into parts whose windows are alike and bearable."""
        area = _window(at[members][..., :2].round().long(), self.half)[1].prod(1)
        members = members[area.argsort(stable=True)]
        each = self.psf.planes * (4 * self.psf.roi_px**2 * members.shape[1] + 6 * int(area.max()))
        step = max(1, CHUNK // each)
        return [members[i : i + step] for i in range(0, len(members), step)]

    @staticmethod
    def _climb(problem: _Problem, state: JointFits | None, tolerance: float, max_iterations: int) -> Climb:
        """Fit groups of one size and, with a state, write down how they have ended."""
        step = max(LANES, 1024 // max(1, problem.e))
        limits = problem.limits()
        found = climb(
            problem.score, problem.first, limits, tolerance=tolerance, max_iterations=max_iterations, batch=step, kink=KINK
        )
        if state is not None:
            problem.keep(found, limits, state)
        return found

    def _limits(self, z_range: tuple[float, float], reach_px: float) -> tuple[list[float], list[float], list[float]]:
        """Give low, high and stride of one emitter's parameters, positions as moves from the start."""
        low, high, stride = [-reach_px, -reach_px], [reach_px, reach_px], [1.0, 1.0]
        if self.third:
            low, high = [*low, z_range[0]], [*high, z_range[1]]
            stride.append((z_range[1] - z_range[0]) / 5)
        infinite = float("inf")
        return [*low, LEAST_PHOTONS], [*high, infinite], [*stride, infinite]


def _window(pixel: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Give the first pixel (x, y) and the shape (rows, columns) of the boxes around groups of pixels (m, e, 2): (m, 2) each."""
    low = pixel.amin(1) - half
    return low, (pixel.amax(1) + half - low + 1).flip(1)


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


def _copy(fits: JointFits) -> JointFits:
    """Copy fits, to be written to."""
    return JointFits(**{name: values.clone() for name, values in vars(fits).items()})


def _members(label: Tensor) -> list[Tensor]:
    """List the groups by their size: (m, e) indices of emitters for each size e there is."""
    order = label.argsort(stable=True)
    sizes = torch.bincount(label)
    first = sizes.cumsum(0) - sizes
    return [order[first[sizes == e][:, None] + torch.arange(int(e), device=label.device)] for e in sizes.unique() if int(e) > 0]


class _Problem:
    """Groups of one size e: their windows, and the likelihood in their parameters.

    Parameters of a group: for each emitter its moves along x and y in px, [depth,] photons; then the background of each plane as level and,
    where it may slope, its changes to the border.
    """

    def __init__(
        self,
        joint: Joint,
        members: Tensor,
        start: Tensor,
        light: Tensor,
        state: JointFits,
        prior: Prior | None,
        around: Tensor | None = None,
    ) -> None:
        """Set up groups (m, e) of one size, in windows around where they are.

        With ``around`` (m, e') the windows are those of an earlier fit of these emitters, of which those that are no members give no light.
        """
        self.joint, self.members = joint, members
        self.m, self.e = members.shape
        self.c = joint.n_coordinates + 1
        self.begin = start[members][..., :2].double()  # (m, e, 2): moves count from here
        self.prior = None if prior is None else Prior(prior.mean[members].double(), prior.precision[members].double())
        self.pixel = state.at[members][..., :2].round().long() if around is None else state.pixel[around]
        around = members if around is None else around
        self._cut(state, light, around, self.pixel)
        own = state.at[members].clone()
        own[..., :2] -= self.begin
        level = _in_order(state.background[around]) / around.shape[1]
        lights = torch.zeros(self.m, joint.psf.planes, joint.kinds, dtype=torch.float64, device=members.device)
        lights[..., 0] = level
        self.first = torch.cat((own.flatten(1), lights.flatten(1)), 1)

    def _cut(self, state: JointFits, light: Tensor, around: Tensor, pixel: Tensor) -> None:
        """Cut the windows of emitters (m, e'): counts, NaN beyond the squares around pixels (m, e', 2), and what else shines into them."""
        joint, half = self.joint, self.joint.half
        low, self.extent = _window(pixel, half)
        height, width = (int(v) for v in self.extent.amax(0))
        self.left, self.top = low[:, 0], low[:, 1]
        rows = self.top[:, None] + torch.arange(height, device=pixel.device)
        columns = self.left[:, None] + torch.arange(width, device=pixel.device)
        near_row = (rows[:, None] - pixel[:, :, 1:]).abs() <= half
        near_column = (columns[:, None] - pixel[:, :, :1]).abs() <= half
        there = (near_row[..., None] & near_column[..., None, :]).any(1)  # (m, h, w)
        h, w = joint.shape_px
        there &= ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None]
        frame = state.frame[around[:, 0]]
        index = (
            frame[:, None, None, None],
            torch.arange(joint.psf.planes, device=pixel.device)[None, :, None, None],
            rows.clamp(0, h - 1)[:, None, :, None],
            columns.clamp(0, w - 1)[:, None, None, :],
        )
        self.counts = torch.where(there[:, None], joint.counts[index], torch.nan).contiguous()
        still = joint.dark[(torch.zeros_like(index[0]) if len(joint.dark) == 1 else index[0], *index[1:])]
        self.still = still.contiguous()
        self.shape_px = (height, width)
        mine = self._light(self._draw(state.at[around].flatten(0, 1), around.shape[1]), state.at[around][..., -1])
        others = (light[index] - mine).clamp(min=0)
        self.dark = (self.still + joint.noise.gain * others).contiguous()

    def _draw(self, at: Tensor, e: int) -> Tensor:
        """Draw emitters (m e, c) into the windows: (m, e, planes, h, w) fractions."""
        whole, values = self.joint.fractions(at)
        row, column = whole[:, 1] - self.top.repeat_interleave(e), whole[:, 0] - self.left.repeat_interleave(e)
        return placed(values, row, column, self.shape_px).unflatten(0, (self.m, e))

    @staticmethod
    def _light(fractions: Tensor, photons: Tensor) -> Tensor:
        total = torch.zeros_like(fractions[:, 0]) if fractions.shape[1] else fractions.sum(1)
        for bright, shape in zip(
            photons.to(fractions).unbind(1), fractions.unbind(1), strict=True
        ):  # in one order, whatever stands beside
            total = total + bright[:, None, None, None] * shape
        return total

    def limits(self) -> Limits:
        """Give the limits of all parameters."""
        joint = self.joint
        level = [[LEAST_BACKGROUND, -float("inf"), -float("inf")][: joint.kinds], [float("inf")] * joint.kinds]
        low, high, stride = (
            torch.tensor(values * self.e + light * joint.psf.planes, dtype=torch.float64, device=self.first.device)
            for values, light in zip(joint.limits, (level[0], level[1], level[1]), strict=True)
        )
        return Limits(low, high, stride)

    def split(self, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Split parameters (k, p) of groups into emitters (k, e, c), in px of the frame, and backgrounds (k, lights)."""
        emitters = at[:, : self.e * self.c].unflatten(1, (self.e, self.c))
        emitters = torch.cat((emitters[..., :2] + self.begin[which], emitters[..., 2:]), 2)
        return emitters, at[:, self.e * self.c :]

    def score(self, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score parameters (k, p) of groups ``which`` (k,), the prior included."""
        emitters, lights = self.split(which, at)
        objective, gradient, fisher = self._likelihood(which, emitters, lights)
        if self.prior is not None:
            pull = self.prior.precision[which] * (emitters[..., :-1] - self.prior.mean[which])
            objective = objective + 0.5 * (pull * (emitters[..., :-1] - self.prior.mean[which])).sum((1, 2))
            fill = torch.zeros_like(emitters[..., :1])
            n = self.e * self.c
            gradient[:, :n] -= torch.cat((pull, fill), 2).flatten(1)
            fisher.diagonal(dim1=1, dim2=2)[:, :n] += torch.cat((self.prior.precision[which], fill), 2).flatten(1)
        return objective, gradient, fisher

    def _likelihood(self, which: Tensor, emitters: Tensor, lights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joint, (k, e) = self.joint, emitters.shape[:2]
        whole, values, slopes = (one.unflatten(0, (k, e)) for one in joint.with_slopes(emitters.flatten(0, 1)))
        row, column = whole[..., 1] - self.top[which, None], whole[..., 0] - self.left[which, None]
        bright = emitters[..., -1]
        return score_groups(
            self.counts, self.dark, self.extent, which, values, slopes, row, column, bright, lights, joint.noise.gain
        )

    def keep(self, found: Climb, limits: Limits, state: JointFits) -> None:
        """Write down how the groups have ended."""
        every = torch.arange(self.m, device=self.first.device)
        emitters, lights = self.split(every, found.at)
        n = self.e * self.c
        pressed = ((found.at <= limits.low) | (found.at >= limits.high))[:, :n].unflatten(1, (self.e, self.c))
        covariance = _blocks(invert(found.fisher), self.e, self.c)
        fisher = _blocks(found.fisher, self.e, self.c)
        if self.prior is not None:
            fisher.diagonal(dim1=2, dim2=3)[..., :-1].sub_(self.prior.precision)
        sound = torch.isfinite(covariance.diagonal(dim1=2, dim2=3)).all(2)
        to = self.members
        state.at[to], state.pixel[to] = emitters, self.pixel
        state.background[to] = self._levels(emitters, lights)
        state.covariance[to], state.fisher[to] = covariance, fisher
        agreement = self.agreement(emitters, lights, found.at.shape[1])
        for values, own in zip((state.log_likelihood, state.deviance_ratio, state.p_value), agreement, strict=True):
            values[to] = own[:, None].expand(self.m, self.e)
        state.iterations[to] = found.iterations[:, None].expand(self.m, self.e)
        state.converged[to] = found.converged[:, None] & sound & ~pressed.any(2)

    def _levels(self, emitters: Tensor, lights: Tensor) -> Tensor:
        """Give the background at the emitters, (m, e, planes)."""
        lights = lights.unflatten(1, (self.joint.psf.planes, self.joint.kinds))
        level = lights[:, None, :, 0].expand(-1, self.e, -1)
        if self.joint.kinds == 1:
            return level
        h, w = self.shape_px
        x = (emitters[..., 0] - self.left[:, None] - (w - 1) / 2) / (w / 2)
        y = (emitters[..., 1] - self.top[:, None] - (h - 1) / 2) / (h / 2)
        return (level + x[..., None] * lights[:, None, :, 1] + y[..., None] * lights[:, None, :, 2]).clamp(min=0)

    def agreement(self, emitters: Tensor, lights: Tensor, p: int) -> Tensor:
        """Give log-likelihood, deviance over its expectation, and p-value of the groups: (3, m)."""
        joint = self.joint
        mine = self._light(self._draw(emitters.flatten(0, 1), self.e), emitters[..., -1])
        level = torch.einsum("nl,lqhw->nqhw", lights, planes_of_light(joint.psf.planes, self.shape_px, lights.shape[1], lights)).to(
            mine
        )
        mean = (joint.noise.gain * (mine + level) + self.dark).clamp(min=1e-6)
        there = ~torch.isnan(self.counts)
        counts = torch.where(there, self.counts, mean).clamp(min=0)
        term = torch.special.xlogy(counts, mean) - mean - torch.lgamma(counts + 1)
        expected, variance = expected_moments(mean, self.still, joint.noise.is_amplified)
        terms = (term, deviance(counts, mean), expected, variance)
        likelihood, value, expected, variance = (torch.where(there, t, 0.0).sum((1, 2, 3), dtype=torch.float64) for t in terms)
        expected, variance = (expected - p).clamp(min=0.1), (variance - 2 * p).clamp(min=0.1)
        return torch.stack((likelihood, value / expected, p_value(value, expected, variance)))


def _in_order(values: Tensor) -> Tensor:
    """Sum (m, e, ...) over e one after the other: `Tensor.sum` takes another order where more stands beside."""
    total = values.new_zeros(values.shape[0], *values.shape[2:])
    for one in values.unbind(1):
        total = total + one
    return total


def _blocks(matrix: Tensor, e: int, c: int) -> Tensor:
    """Take the blocks (m, e, c, c) on the diagonal of matrices (m, p, p) that belong to emitters."""
    own = matrix[:, : e * c, : e * c].unflatten(1, (e, c)).unflatten(3, (e, c))
    return own.diagonal(dim1=1, dim2=3).movedim(-1, 1).clone()
