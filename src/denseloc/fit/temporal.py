"""The same molecule in neighbouring frames: what its other frames tell of its position.

A localization of the next frame at nearly the same place is the same molecule with the probability

    p = q N(d; 0, V) / (q N(d; 0, V) + rivals + rho)

where d is the distance, V the sum of the two covariances, q the chance that a molecule is still on, "rivals" what the other localizations of
both frames say for themselves, and rho how many localizations of other molecules a frame has around there. The information of the frames
before and after is added with these weights, multiplied along the chain, so that a doubtful link counts little.

Source: ours; the shared position is that of tracking and of DECODE's temporal context (Speiser et al., Nature Methods 18 (2021) 1082).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from .joint_fits import JointFits, Prior

STAYS_ON = 0.3
"""Chance that a molecule seen in one frame is seen in a given one of the next two."""

GAP = 2
"""Frames after which a molecule may be seen again: 1 for the very next."""

CHAIN = 8
"""Links that are followed to each side."""

FAULTS = 1.6
"""Variance over its bound of a fit of emitters that overlap: what PSF, number and links leave out (measured on the challenge-like movies)."""

LEAST_KNOWN = 1e-4  # of the information that `VAGUE` stands for: what is taken as known at least, so that all can be solved for
VAGUE = (1.0, 1.0, 300.0)  # standard deviations, px and nm, of what nothing else is known of
LEAST = 0.1  # probability of a link that is looked at
FAITH = 0.05  # product of the links at which a chain ends
FAR = 5.0  # standard deviations at which partners are looked for
CELL_PX, CELL_NM = 1.0, 100.0  # of the map of densities
SMOOTH = 1.2  # cells over which it is smoothed
FIELDS_SHARE = 0.1  # of the mean density, that may be anywhere


@dataclass(frozen=True)
class Evidence:
    """What frames tell of positions: Gaussian, as information ``A`` and ``A x``.

    Args:
        own: (n, k, k) information of the frame alone.
        own_at: (n, k) that times the position it speaks for.
        prior: (n, k, k) information that came from elsewhere (a network that sees several frames).
        prior_at: (n, k) that times its position.
        faults: (n,) variance of the frame's own part over its bound, see `FAULTS`.
    """

    own: np.ndarray
    own_at: np.ndarray
    prior: np.ndarray
    prior_at: np.ndarray
    faults: np.ndarray

    def position(self) -> np.ndarray:
        """Give where all of it together points, (n, k)."""
        return solve(self.own + self.prior, self.own_at + self.prior_at)

    @staticmethod
    def concat(parts: Sequence[Mapping[str, np.ndarray]]) -> Evidence:
        """Join parts, each the arrays of one."""
        return Evidence(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    @classmethod
    def of(cls, fits: JointFits, prior: Prior | None, origin_px: tuple[int, int]) -> Evidence:
        """Take apart what fits say: the frame's share is what the prior does not account for. Fits that have not converged tell nothing.

        Args:
            fits: of n emitters.
            prior: that of the fits.
            origin_px: (row, column) of the frames' first pixel in the field; positions are those of the field.
        """
        k = fits.at.shape[1] - 1
        shift = np.array([origin_px[1], origin_px[0], 0.0][:k])
        good = (fits.converged & torch.isfinite(fits.covariance).all(2).all(1)).cpu().numpy()
        at = fits.at[:, :k].cpu().numpy()
        precision, mean = np.zeros_like(at), at
        if prior is not None:
            precision, mean = prior.precision.cpu().numpy(), prior.mean.cpu().numpy()
        vague = ~good[:, None] & (precision <= 0)
        precision = np.where(vague, np.array(VAGUE[:k]) ** -2.0, precision)
        precision = np.maximum(precision, LEAST_KNOWN * np.array(VAGUE[:k]) ** -2.0)
        covariance = np.where(good[:, None, None], fits.covariance[:, :k, :k].cpu().numpy(), np.eye(k))
        known = precision[:, :, None] * np.eye(k)
        own = np.linalg.inv(covariance) - known
        values, vectors = np.linalg.eigh((own + own.swapaxes(1, 2)) / 2)
        own = np.einsum("nij,nj,nkj->nik", vectors, values.clip(min=0) * good[:, None], vectors)
        total = np.einsum("nij,nj->ni", own + known, at + shift)
        prior_at = precision * (mean + shift)
        together = torch.bincount(fits.group)[fits.group].cpu().numpy() if len(fits) else np.zeros(0)
        faults = np.where(together > 1, FAULTS, 1.0)
        return cls(own, np.where(good[:, None], total - prior_at, 0.0), known, prior_at, faults)


@dataclass(frozen=True)
class Links:
    """Which localization follows which; all arrays have length n, -1 stands for none.

    Args:
        after, before: index of the same molecule in a later and in an earlier frame.
        p_after, p_before: probability of these links.
    """

    after: np.ndarray
    before: np.ndarray
    p_after: np.ndarray
    p_before: np.ndarray


def solve(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Solve small systems (n, k, k) x = (n, k)."""
    return np.linalg.solve(matrix, vector[..., None])[..., 0]


class DensityMap:
    """How many localizations a frame has around a place, per px^2, or px^2 nm where they have a depth.

    Args:
        position: (n, 2 or 3) x, y in px, [depth in nm] of all localizations.
        n_frames: frames in which they were found.
    """

    def __init__(self, position: np.ndarray, n_frames: int) -> None:
        self.cell = np.array([CELL_PX, CELL_PX, CELL_NM][: position.shape[1]])
        self.origin = position.min(0)
        index = self._index(position)
        counts = np.zeros(index.max(0) + 1, np.float32)
        np.add.at(counts, tuple(index.T), 1.0)
        around = gaussian_filter(counts, SMOOTH, mode="constant") + FIELDS_SHARE * len(position) / counts.size
        self.values = around / (max(1, n_frames) * self.cell.prod())

    def _index(self, position: np.ndarray) -> np.ndarray:
        return np.floor((position - self.origin) / self.cell).astype(np.int64)

    def at(self, position: np.ndarray) -> np.ndarray:
        """Give the density at places (n, k); outside of the map that at its border."""
        index = self._index(position).clip(0, np.array(self.values.shape) - 1)
        return self.values[tuple(index.T)].astype(np.float64)


def link_radius(sigma_px: np.ndarray) -> float:
    """Give the distance in px within which partners are sought, from lateral standard deviations (n,)."""
    return FAR * float(np.sqrt(2) * np.quantile(sigma_px, 0.9))


def link(frame: np.ndarray, position: np.ndarray, covariance: np.ndarray, rho: np.ndarray, radius_px: float) -> Links:
    """Find the same molecules in later frames: partners that are each other's best, the nearest frame first.

    Args:
        frame: (n,) numbers of the frames.
        position: (n, k) x, y in px, [depth in nm].
        covariance: (n, k, k) of the positions.
        rho: (n,) densities, as `DensityMap` gives them.
        radius_px: distance within which partners are sought.
    """
    n = len(frame)
    links = unlinked(n)
    if n == 0:
        return links
    for gap in range(1, GAP + 1):
        one, other = _candidates(frame, position, radius_px, gap, links)
        if len(one) == 0:
            continue
        p = _probability(position, covariance, rho, one, other, n)
        chosen = (p > LEAST) & _is_best(p, one, n) & _is_best(p, other, n)
        one, other, p = one[chosen], other[chosen], p[chosen]
        links.after[one], links.before[other] = other, one
        links.p_after[one], links.p_before[other] = p, p
    return links


def _candidates(frame: np.ndarray, position: np.ndarray, radius: float, gap: int, links: Links) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs ``gap`` frames apart that lie near one another and have no partner yet."""
    early, late = np.flatnonzero(links.after < 0), np.flatnonzero(links.before < 0)
    if len(early) == 0 or len(late) == 0:
        return early[:0], late[:0]
    apart = 4 * radius
    trees = [
        cKDTree(np.column_stack((position[some, :2], (frame[some] + shift) * apart))) for some, shift in ((early, gap), (late, 0))
    ]
    near = trees[0].sparse_distance_matrix(trees[1], radius, output_type="coo_matrix")
    return early[near.row], late[near.col]


def _probability(
    position: np.ndarray, covariance: np.ndarray, rho: np.ndarray, one: np.ndarray, other: np.ndarray, n: int
) -> np.ndarray:
    """Give the probability that pairs are the same molecule."""
    together = covariance[one] + covariance[other]
    apart = position[one] - position[other]
    distance = (apart * solve(together, apart)).sum(1)
    volume = np.sqrt((2 * np.pi) ** apart.shape[1] * np.linalg.det(together))
    likely = STAYS_ON * np.exp(-0.5 * distance) / volume
    rivals = np.bincount(one, likely, n)[one] + np.bincount(other, likely, n)[other] - likely
    return likely / (rivals + 0.5 * (rho[one] + rho[other])).clip(min=1e-30)


def _is_best(p: np.ndarray, of: np.ndarray, n: int) -> np.ndarray:
    """Say which pairs are the likeliest of their member ``of``; the first of equal ones."""
    order = np.lexsort((np.arange(len(p)), -p, of))
    first = np.ones(len(p), bool)
    first[1:] = of[order][1:] != of[order][:-1]
    best = np.zeros(len(p), bool)
    best[order[first]] = True
    return best


PRIORS_SHARE = 0.5
"""How much of what a linked localization knows from elsewhere counts: its network has seen the same frames in part."""


def share(evidence: Evidence, links: Links) -> np.ndarray:
    """Add to each localization what its molecule's other frames tell.

    Returns:
        positions (n, k).
    """
    matrix = evidence.own + evidence.prior
    vector = evidence.own_at + evidence.prior_at
    given = evidence.own + PRIORS_SHARE * evidence.prior
    given_at = evidence.own_at + PRIORS_SHARE * evidence.prior_at
    for here, weight in _along(links):
        matrix = matrix + weight[:, None, None] * given[here]
        vector = vector + weight[:, None] * given_at[here]
    return solve(matrix, vector)


def variances(evidence: Evidence, links: Links, seen: int) -> np.ndarray:
    """Say how far shared positions can be believed.

    The likelihoods of the frames are independent, so that their information adds up; a prior is not independent of them, for its network has
    seen ``seen`` frames of the same movie. n frames of a molecule hold the light of n + seen - 1, of which each prior knows ``seen`` already: the
    mean variance of the priors falls by ``seen / (n + seen - 1)``. The better of the two ways counts.

    Args:
        evidence: of n localizations.
        links: between them.
        seen: frames that went into each prior, 1 or 3.

    Returns:
        (n, k) variances of the coordinates; infinite where nothing is known.
    """
    n = np.ones(len(evidence.own))
    each, prior = evidence.own / evidence.faults[:, None, None], np.diagonal(evidence.prior, axis1=1, axis2=2)
    own = each
    for here, weight in _along(links):
        n = n + weight
        own = own + weight[:, None, None] * each[here]
        prior = prior + weight[:, None] * np.diagonal(evidence.prior[here], axis1=1, axis2=2)
    with np.errstate(divide="ignore"):
        known = n[:, None] / prior * (seen / (n + seen - 1))[:, None]
    told = _variances(own)
    return np.minimum(known, told)


def _variances(information: np.ndarray) -> np.ndarray:
    """Give the diagonal of the inverse of information (n, k, k), each coordinate in its own unit; infinite where nothing is known."""
    scale = np.sqrt(np.diagonal(information, axis1=1, axis2=2))
    safe = np.where(scale > 0, scale, 1.0)
    alike = information / (safe[:, :, None] * safe[:, None, :]) + 1e-9 * np.eye(information.shape[1])
    known = np.diagonal(np.linalg.inv(np.where(scale[:, :, None] > 0, alike, np.eye(information.shape[1]))), axis1=1, axis2=2)
    return np.where(scale > 0, known / safe**2, np.inf)


def unlinked(n: int) -> Links:
    """Give links that lead nowhere."""
    return Links(np.full(n, -1), np.full(n, -1), np.zeros(n), np.zeros(n))


def _along(links: Links) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk along the chains, to both sides: the index of the localization reached from each, and the product of the links until there."""
    n = len(links.after)
    for following, probability in ((links.after, links.p_after), (links.before, links.p_before)):
        here, weight = np.arange(n), np.ones(n)
        for _ in range(CHAIN):
            weight = weight * probability[here]
            here = following[here]
            goes_on = (here >= 0) & (weight > FAITH)
            weight, here = np.where(goes_on, weight, 0.0), np.where(goes_on, here, 0)
            if not goes_on.any():
                break
            yield here, weight
