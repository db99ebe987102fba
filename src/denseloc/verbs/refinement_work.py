"""The fits of a refinement: rows of a table to begin with, what they know as a prior, and what molecules of several frames share."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from ..data import Frames, Localizations
from ..files import replacing
from ..fit.fisher import invert
from ..fit.joint_fits import JointFits, Prior
from ..fit.temporal import CHAIN, GAP, DensityMap, Evidence, link, link_radius, share, unlinked, variances
from ..journal import Journal
from ..localize import Multi
from ..localize.crowd import Crowd, Decision
from ..localize.multi import reach_for, to_localizations
from ..preparation import Preparation
from .refinement_checks import believed, usual

MOST_PHOTONS = 1e7  # of a table that are believed
EVIDENCE = [one.name for one in fields(Evidence)]
USUAL_SIGMA_PX = 0.3  # where a table does not tell its precision
HALO = CHAIN * GAP + GAP  # frames on each side that can tell of a position

Part = tuple[Localizations, dict[str, np.ndarray]]
"""The table of a block, and the arrays beside it: what each frame alone tells, and what was added and removed."""


@dataclass(frozen=True)
class Wanted:
    """What a refinement is asked to do, see `refine`."""

    prior: bool = True
    share_positions: bool = True
    add: bool = False
    remove: bool = False
    sloped_background: bool = False


class Work:
    """The fits of one run."""

    def __init__(
        self,
        localizer: Multi,
        rows: Localizations,
        ready: Preparation,
        factor: float,
        seen: int,
        wanted: Wanted,
    ) -> None:
        """Set up the fits.

        Args:
            localizer: draws and fits the emitters.
            rows: of the table, in the order of their frames.
            ready: camera, pixel size and conditions.
            factor: by which the sigmas of the table are widened.
            seen: frames on each side that its method has looked at.
            wanted: what is to be done.
        """
        self.localizer, self.rows, self.ready, self.factor = localizer, rows, ready, factor
        self.prior, self.share = wanted.prior and "sigma_x_nm" in rows, wanted.share_positions
        self.add, self.remove = wanted.add, wanted.remove
        self.has_depth = rows.is_3d and localizer.finds_depth
        kept = (
            "probability",
            "molecule",
            "channel",
            "channel_probability",
            *(() if self.has_depth else ("z_nm", "sigma_z_nm", "crlb_z_nm")),
        )
        self.kept = [name for name in rows.columns if name in kept]
        width = localizer.psf_settings(ready.pixel_size_nm).width_in_focus_nm()
        self.reach = reach_for(width / math.sqrt(ready.pixel_size_nm[0] * ready.pixel_size_nm[1]))
        self.seen = 2 * seen + 1

    def fit(self, frames: Frames, part: tuple[int, int]) -> tuple[Localizations, dict[str, np.ndarray]]:
        """Fit the rows of a block; gives them, and what each frame alone tells of them and what was added and removed, as arrays."""
        low, high = np.searchsorted(self.rows.frame, part)
        rows = self.rows.select(np.arange(low, high))
        crowd = self.localizer.crowd(frames)
        begin, prior = self._begin(rows, crowd)
        number = torch.arange(len(rows))
        fits = crowd.joint.fit(begin, prior)
        if self.add:
            grown = crowd.grow(fits, (0, len(frames.photons)), prior)
            number = torch.cat((number, torch.full((len(grown) - len(fits),), -1)))
            prior = None if prior is None else prior.lengthened(grown.select(number < 0))
            fits = crowd.joint.fit(grown, prior)
        if self.remove:
            fits, left = crowd.prune(fits, prior)
            number, prior = number[left.cpu()], None if prior is None else prior.select(left)
            fits = crowd.joint.fit(fits, prior) if len(fits) else fits
        fits = self._held(fits, begin, number)
        stay = fits.converged | (number >= 0).to(fits.converged.device)
        fits, number, prior = crowd.left(fits, stay), number[stay.cpu()], None if prior is None else prior.select(stay)
        order = torch.from_numpy(np.lexsort((fits.at[:, 0].cpu().numpy(), fits.at[:, 1].cpu().numpy(), fits.frame.cpu().numpy())))
        fits, number, prior = fits.select(order), number[order], None if prior is None else prior.select(order)
        evidence = Evidence.of(fits, self._own_word(fits, prior), frames.origin_px)
        return self._table(fits, crowd, rows, number, evidence), {**vars(evidence), **_columns(crowd.decisions)}

    def _own_word(self, fits: JointFits, prior: Prior | None) -> Prior | None:
        """Give the prior with the table's own sigmas where no fit has used the same pixels again."""
        if prior is None:
            return None
        return replace(prior, precision=torch.where(fits.converged[:, None], 1.0, self.factor**2) * prior.precision)

    def _held(self, fits: JointFits, begin: JointFits, number: torch.Tensor) -> JointFits:
        """Take fits that have left their window, in several steps, or that do not know where they are, as not converged."""
        known = number.to(fits.at.device)
        moved = (fits.at[:, :2] - begin.at[known.clamp(min=0), :2]).abs() > self.reach
        vague = fits.covariance.diagonal(dim1=1, dim2=2)[:, :2] > self.reach**2
        sound = ~(moved & (known >= 0)[:, None]).any(1) & ~vague.any(1)
        return replace(fits, converged=fits.converged & sound)

    def _begin(self, rows: Localizations, crowd: Crowd) -> tuple[JointFits, Prior | None]:
        """Turn rows into places where fits begin, and what is known of them."""
        joint = crowd.joint
        y0, x0 = crowd.frames.origin_px
        pixel = self.ready.pixel_size_nm
        columns = [rows.x_nm / pixel[1] - 0.5 - x0, rows.y_nm / pixel[0] - 0.5 - y0]
        known = [believed(rows.columns.get(f"sigma_{axis}_nm"), len(rows), self.factor) for axis in "xy"]
        sigma = [one / p for one, p in zip(known, pixel[::-1], strict=True)]
        if joint.n_coordinates == 3:
            z = rows.z_nm if rows.is_3d else np.zeros(len(rows))
            unknown = None if rows.is_3d else np.full(len(rows), 0.5 * np.ptp(crowd.settings.z_range_nm))
            columns.append(np.clip(np.nan_to_num(z), *crowd.settings.z_range_nm))
            sigma.append(believed(rows.columns.get("sigma_z_nm", unknown), len(rows), self.factor if rows.is_3d else 1.0))
        columns.append(usual(rows.columns.get("photons"), len(rows), self.localizer.scales.photon_unit, 20.0, MOST_PHOTONS))
        at = torch.from_numpy(np.stack(columns, 1).astype(np.float64))
        level = usual(rows.columns.get("background"), len(rows), self.ready.conditions.background, 0.01, MOST_PHOTONS)
        background = torch.from_numpy(level.astype(np.float64))[:, None].expand(-1, joint.psf.planes)
        frame = torch.from_numpy(rows.frame - crowd.frames.first_frame)
        device = crowd.frames.photons.device
        begin = JointFits.beginning(frame.to(device), at.to(device), background.to(device))
        spread = torch.from_numpy(np.stack(sigma, 1).astype(np.float64)).to(device)
        return begin, Prior(begin.at[:, :-1].clone(), spread**-2) if self.prior else None

    def _table(self, fits: JointFits, crowd: Crowd, rows: Localizations, number: torch.Tensor, evidence: Evidence) -> Localizations:
        """Give fits as a table beside the first values; those that have not converged keep theirs."""
        made = to_localizations(fits, crowd)
        index = number.numpy()
        known = index >= 0
        converged = fits.converged.cpu().numpy()
        columns: dict[str, np.ndarray] = dict(made.columns)
        columns |= self._bounds(evidence)
        source = rows.columns
        if not self.rows.is_3d:  # depth was free, but a PSF that was not made to tell it tells it badly
            columns = {name: values for name, values in columns.items() if "z_nm" not in name}
        for name in ("x_nm", "y_nm", "z_nm", "photons"):
            if name in columns and name in source:
                columns[f"first_{name}"] = _taken(source[name], index, known)
        for name in self.kept:
            columns[name] = _taken(source[name], index, known)
        for name in ("x_nm", "y_nm", "z_nm", "photons", "background", *(c for c in columns if c.startswith("sigma_"))):
            if name in columns and name in source:
                columns[name] = np.where(converged | ~known, columns[name], _taken(source[name], index, known))
        columns["is_refined"] = converged.astype(np.int64)
        return Localizations(columns)

    def _bounds(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Give the bounds of positions as standard deviations: what the frame alone tells."""
        scale = (self.ready.pixel_size_nm[1], self.ready.pixel_size_nm[0], 1.0)
        variance = np.diagonal(invert(torch.from_numpy(evidence.own)).numpy(), axis1=1, axis2=2)
        axes = "xyz"[: 3 if self.has_depth else 2]
        return {f"crlb_{axis}_nm": np.sqrt(variance[:, k]) * scale[k] for k, axis in enumerate(axes)}

    def joined(self, journal: Journal, stop: Callable[[], int], counts: dict[str, int]) -> Iterator[Localizations]:
        """Give the finished blocks, with shared positions; counts what was moved."""
        if not self.share and not self.prior:
            for table in journal.parts(stop):
                counts["refined"] += int(table.is_refined.sum())
                yield table
            return
        k = 3 if self.has_depth else 2
        density, radius = self._surroundings(k)
        for before, (table, arrays), after in with_halo(journal, stop):
            near = (*before, (table, arrays), *after)
            evidence = Evidence.concat([{name: beside[name] for name in EVIDENCE} for _, beside in near])
            start = sum(len(one) for one, _ in before)
            rows = slice(start, start + len(table))
            links = unlinked(len(evidence.own))
            if self.share:
                frame = np.concatenate([one.frame for one, _ in near])
                position, covariance = evidence.position()[:, :k], np.linalg.inv(evidence.own + evidence.prior)[:, :k, :k]
                links = link(frame, position, covariance, density.at(position), radius)
            linked = (links.after[rows] >= 0) | (links.before[rows] >= 0)
            counts["refined"] += int(table.is_refined.sum())
            counts["linked"] += int(linked.sum())
            place, variance = share(evidence, links), variances(evidence, links, self.seen)
            yield self._moved(table, place[rows, :k], variance[rows], linked | (table.is_refined == 1))

    def _surroundings(self, k: int) -> tuple[DensityMap, float]:
        """Give the map of densities of all rows, and the distance within which the same molecules are sought."""
        pixel = self.ready.pixel_size_nm
        places = [self.rows.x_nm / pixel[1] - 0.5, self.rows.y_nm / pixel[0] - 0.5]
        places += [np.nan_to_num(self.rows.z_nm)] if k == 3 else []
        sigma = self.rows.columns.get("sigma_x_nm")
        usual = np.full(1, USUAL_SIGMA_PX) if sigma is None else np.clip(np.nan_to_num(sigma, nan=50.0) / pixel[1], 0.05, 2.0)
        return DensityMap(np.stack(places, 1), int(np.ptp(self.rows.frame)) + 1), link_radius(usual)

    def _moved(self, table: Localizations, place: np.ndarray, variance: np.ndarray, moved: np.ndarray) -> Localizations:
        """Put shared positions (n, k), in px and nm, and their variances into a table."""
        pixel, names = self.ready.pixel_size_nm, ("x_nm", "y_nm", "z_nm")
        scale, shift = (pixel[1], pixel[0], 1.0), (0.5, 0.5, 0.0)
        columns: dict[str, np.ndarray] = {}
        first = np.stack([table.columns[f"first_{name}"] / scale[k] - shift[k] for k, name in enumerate(names[:2])], 1)
        moved = moved & ~(np.abs(place[:, :2] - first) > self.reach).any(1)
        for k in range(place.shape[1]):
            value = (place[:, k] + shift[k]) * scale[k]
            columns[names[k]] = np.where(moved, value, table.columns[names[k]])
            sigma = np.sqrt(variance[:, k]) * scale[k]
            columns[f"sigma_{names[k]}"] = np.where(moved, sigma, table.columns[f"sigma_{names[k]}"])
        return table.with_columns(**columns).sort()


def with_halo(journal: Journal, stop: Callable[[], int]) -> Iterator[tuple[list[Part], Part, list[Part]]]:
    """Give each finished block with those before and after it that reach over the frames which can tell of its positions."""
    held: list[Part] = []  # blocks from number ``first`` on
    spans = journal.spans()
    first = done = 0
    for part in journal.parts_beside(stop):
        held.append(part)
        while done < len(spans) and (first + len(held) == len(spans) or spans[first + len(held) - 1][1] >= spans[done][1] + HALO):
            while spans[first][1] <= spans[done][0] - HALO:
                first += 1
                del held[0]
            last = done + 1
            while last < first + len(held) and spans[last][0] < spans[done][1] + HALO:
                last += 1
            yield held[: done - first], held[done - first], held[done - first + 1 : last - first]
            done += 1


def _columns(decisions: list[Decision]) -> dict[str, np.ndarray]:
    """Turn decisions into arrays."""
    return {f"why_{f.name}": np.array([getattr(one, f.name) for one in decisions]) for f in fields(Decision)}


def decisions_of(arrays: dict[str, np.ndarray]) -> Iterator[Decision]:
    """Turn arrays that stand beside a block into decisions."""
    columns = [arrays[f"why_{f.name}"].tolist() for f in fields(Decision)]
    return (Decision(*row) for row in zip(*columns, strict=True))


def write_decisions(decisions: Sequence[Decision], path: Path) -> None:
    """Write decisions as CSV."""
    names = [f.name for f in fields(Decision)]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        rows.writerows([getattr(one, name) for name in names] for one in decisions)


def _taken(values: np.ndarray, index: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Take rows of a column; where there is none, NaN, or -1 among whole numbers."""
    if len(values) == 0:
        return np.full(len(index), np.nan)
    nothing = -1 if values.dtype.kind == "i" else np.nan
    return np.where(known, values[np.where(known, index, 0)], nothing)
