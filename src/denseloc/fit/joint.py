"""Many emitters at once: those whose images overlap are fitted together, on the union of their windows, with a background of their own.

Emitters near one another form groups (`groups.group`). Each group is one problem of `levenberg.climb`: x, y, [depth,] photons of its
emitters and the level (and slope) of the background around them. What the other emitters of the frame shine into its pixels is taken as known
and renewed in sweeps, so that also crowds without end are fitted: a group that was too large and has been cut is a block of coordinates.

A Gaussian prior on the coordinates makes it a maximum a posteriori fit; so positions seen in neighbouring frames come in.

Source: Huang, Schwartz, Byars, Lidke, Biomedical Optics Express 2 (2011) 1377 (joint fits of several emitters by maximum likelihood).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .drawing import LANES
from .groups import group, neighbours, turns
from .joint_fits import JointFits, Prior
from .levenberg import Climb, climb
from .problem import Problem, window
from .scene import Scene

CHUNK = 1 << 22  # numbers held at once for the windows and patches of one bucket
SETTLED_PX, SETTLED_NM, SETTLED_LIGHT = 0.005, 1.5, 0.005  # changes below which a neighbour's light counts as known
KINK = 30.0  # see `levenberg.climb`


class Joint(Scene):
    """Fits of many emitters to the same frames; made as a `Scene` is."""

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
                    problem = Problem(self, some, start, light, state, prior)
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
                whole = Problem(self, some, fits.at, light, fits, prior, around=some)
                less = Problem(self, others, fits.at, light, fits, prior, around=torch.cat((others, ghost[:, None]), 1))
                result[row] = self._likelihood(whole) - self._likelihood(less)
        return result

    def _likelihood(self, problem: Problem) -> Tensor:
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
        area = window(at[members][..., :2].round().long(), self.half)[1].prod(1)
        members = members[area.argsort(stable=True)]
        each = self.psf.planes * (4 * self.psf.roi_px**2 * members.shape[1] + 6 * int(area.max()))
        step = max(1, CHUNK // each)
        return [members[i : i + step] for i in range(0, len(members), step)]

    @staticmethod
    def _climb(problem: Problem, state: JointFits | None, tolerance: float, max_iterations: int) -> Climb:
        """Fit groups of one size and, with a state, write down how they have ended."""
        step = max(LANES, 1024 // max(1, problem.e))
        limits = problem.limits()
        found = climb(
            problem.score, problem.first, limits, tolerance=tolerance, max_iterations=max_iterations, batch=step, kink=KINK
        )
        if state is not None:
            problem.keep(found, limits, state)
        return found


def _copy(fits: JointFits) -> JointFits:
    """Copy fits, to be written to."""
    return JointFits(**{name: values.clone() for name, values in vars(fits).items()})


def _members(label: Tensor) -> list[Tensor]:
    """List the groups by their size: (m, e) indices of emitters for each size e there is."""
    order = label.argsort(stable=True)
    sizes = torch.bincount(label)
    first = sizes.cumsum(0) - sizes
    return [order[first[sizes == e][:, None] + torch.arange(int(e), device=label.device)] for e in sizes.unique() if int(e) > 0]
