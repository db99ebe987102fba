"""Links between frames: who is the same molecule, how sure that is, and what it gains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denseloc.fit import Noise
from denseloc.fit.joint import Joint
from denseloc.fit.joint_fits import JointFits, Prior
from denseloc.fit.temporal import (
    GAP,
    PRIORS_SHARE,
    STAYS_ON,
    DensityMap,
    Evidence,
    Links,
    link,
    link_radius,
    share,
    unlinked,
    variances,
)
from denseloc.optics import GaussianSettings

SIGMA = 0.08  # px


def covariances(n: int, k: int = 2, sigma: float = SIGMA) -> np.ndarray:
    return np.broadcast_to(np.eye(k) * np.array([sigma, sigma, 30.0][:k]) ** 2, (n, k, k)).copy()


def evidence_of(position: np.ndarray, covariance: np.ndarray) -> Evidence:
    own = np.linalg.inv(covariance)
    nothing = np.zeros_like(own)
    return Evidence(own, np.einsum("nij,nj->ni", own, position), nothing, nothing[:, :, 0], np.ones(len(own)))


def linked(frame: np.ndarray, position: np.ndarray, rho: float = 1e-3, sigma: float = SIGMA) -> Links:
    n, k = position.shape
    radius = link_radius(np.full(n, sigma))
    return link(frame, position, covariances(n, k, sigma), np.full(n, rho), radius)


def standing(molecules: int, frames: int, seed: int = 1, k: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw molecules that stand still, far from one another: frames, truth, measured places; molecule by molecule."""
    rng = np.random.default_rng(seed)
    at = np.column_stack((np.arange(molecules) % 40 * 10.0, np.arange(molecules) // 40 * 10.0, np.zeros(molecules)))[:, :k]
    truth = np.repeat(at, frames, 0)
    spread = rng.normal(size=truth.shape) * np.array([SIGMA, SIGMA, 30.0][:k])
    return np.tile(np.arange(frames), molecules), truth, truth + spread


@pytest.mark.parametrize("k", [2, 3])
def test_standing_still_over_five_frames_is_as_good_as_five_times_the_light(k: int) -> None:
    frame, truth, place = standing(600, 5, k=k)
    links = linked(frame, place, 1e-3 if k == 2 else 1e-6)
    following = links.after.reshape(-1, 5)
    assert (following[:, :4] == np.arange(len(frame)).reshape(-1, 5)[:, 1:]).mean() > 0.97
    assert (following[:, 4] == -1).all()
    evidence = evidence_of(place, covariances(len(place), k))
    shared = share(evidence, links)
    middle = np.arange(2, len(frame), 5)  # what is linked twice to both sides
    alone, together = (np.sqrt(((one - truth)[middle] ** 2).mean(0)) for one in (place, shared))
    np.testing.assert_allclose(together / alone, 5**-0.5, rtol=0.1)
    sigma = np.sqrt(variances(evidence, links, 1))
    pull = (shared - truth) / sigma
    assert np.abs(pull.std(0) - 1).max() < 0.06  # all five frames, whatever side
    assert np.median(sigma[:, 0]) == pytest.approx(SIGMA * 5**-0.5, rel=0.05)


def test_nothing_linked_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    frame = np.repeat(np.arange(10), 3)
    place = np.column_stack((np.arange(30) * 5.0, rng.uniform(0, 100, 30)))
    links = linked(frame, place)
    assert (links.after == -1).all()
    assert (links.before == -1).all()
    covariance = covariances(30)
    evidence = evidence_of(place, covariance)
    np.testing.assert_allclose(share(evidence, links), place, rtol=1e-9)
    np.testing.assert_allclose(variances(evidence, links, 1), np.diagonal(covariance, axis1=1, axis2=2), rtol=1e-6)


def test_no_localizations_have_no_links() -> None:
    links = link(np.zeros(0, int), np.zeros((0, 2)), covariances(0), np.zeros(0), 1.0)
    assert len(links.after) == 0


def test_links_go_both_ways_to_later_frames_only() -> None:
    frame, _, place = standing(50, 4)
    order = np.random.default_rng(0).permutation(len(frame))
    frame, place = frame[order], place[order]
    links = linked(frame, place)
    one = np.flatnonzero(links.after >= 0)
    other = links.after[one]
    assert len(one) > 140
    np.testing.assert_array_equal(links.before[other], one)
    np.testing.assert_array_equal(links.p_before[other], links.p_after[one])
    assert ((frame[other] - frame[one] >= 1) & (frame[other] - frame[one] <= GAP)).all()
    assert len(set(other)) == len(other)


def test_a_molecule_may_be_missed_in_one_frame_but_not_in_two() -> None:
    place = np.zeros((3, 2))
    links = linked(np.array([0, 2, 5]), place)
    assert links.after.tolist() == [1, -1, -1]


def test_equal_places_are_linked() -> None:
    links = linked(np.array([0, 1]), np.ones((2, 2)))
    assert links.after.tolist() == [1, -1]
    volume = 2 * np.pi * 2 * SIGMA**2
    likely = STAYS_ON / volume
    assert links.p_after[0] == pytest.approx(likely / (likely + 1e-3))


def test_other_depths_are_other_molecules() -> None:
    place = np.array([[3.0, 3.0, -200.0], [3.0, 3.0, 200.0]])
    assert linked(np.array([0, 1]), place).after.tolist() == [-1, -1]


def test_neighbours_that_cross_are_not_linked() -> None:
    """Two near molecules, each seen in turn: 6 standard deviations apart there is no link, and where it may be either none is trusted."""
    apart = 6 * 2**0.5 * SIGMA
    links = linked(np.array([0, 1]), np.array([[5.0, 5.0], [5.0 + apart, 5.0]]))
    assert links.after.tolist() == [-1, -1]
    near = 0.5 * SIGMA
    both = np.array([[5.0, 5.0], [5.0 + near, 5.0]])
    crossing = linked(np.array([0, 0, 1, 1]), np.concatenate((both, both[:, ::-1] * [1.0, 1.0])))
    assert crossing.p_after.max() < 0.5
    clear = np.array([[5.0, 5.0], [5.0 + 8 * SIGMA, 5.0]])
    straight = linked(np.array([0, 0, 1, 1]), np.concatenate((clear, clear)))
    assert straight.after.tolist() == [2, 3, -1, -1]
    assert straight.p_after[:2].min() > 0.9


def test_in_a_dense_structure_links_are_doubted() -> None:
    frame, _, place = standing(60, 2)
    sparse, dense = (linked(frame, place, rho).p_after[::2] for rho in (1e-3, 5.0))
    assert np.median(sparse) > 0.99
    assert np.median(dense) < 0.7
    crowded = linked(frame, place, 1e4)
    assert (crowded.after == -1).all()


@pytest.mark.parametrize(("width_px", "most"), [(10.0, 1.1), (0.0, 1.7)])
def test_links_of_strangers_do_little_harm(width_px: float, most: float) -> None:
    """Each frame has other molecules, so that every link is wrong; on a line, thinner than the map of densities resolves, it costs more."""
    rng = np.random.default_rng(7)
    n_frames, per_frame, sigma = 400, 24 if width_px else 12, 0.1
    frame = np.repeat(np.arange(n_frames), per_frame)
    truth = np.column_stack((rng.uniform(0, 60, len(frame)), 5.0 + width_px * rng.random(len(frame))))
    place = truth + rng.normal(size=truth.shape) * sigma
    density = DensityMap(place, n_frames)
    links = link(frame, place, covariances(len(frame), 2, sigma), density.at(place), link_radius(np.full(len(frame), sigma)))
    evidence = evidence_of(place, covariances(len(frame), 2, sigma))
    pull = (share(evidence, links) - truth)[:, 0] / np.sqrt(variances(evidence, links, 1)[:, 0])
    assert (links.after >= 0).mean() < 0.3
    assert 1.0 < pull.std() < most


def test_the_density_is_that_of_the_places() -> None:
    rng = np.random.default_rng(3)
    place = np.column_stack((rng.uniform(0, 50, 20000), rng.uniform(0, 30, 20000)))
    density = DensityMap(place, 100)
    inside = density.at(np.array([[25.0, 15.0], [10.0, 8.0]]))
    np.testing.assert_allclose(inside, 20000 / 100 / 1500 * 1.1, rtol=0.15)  # a tenth of the mean may be anywhere
    assert density.at(np.array([[1000.0, -1000.0]])) > 0
    deep = DensityMap(np.column_stack((place, rng.uniform(-500, 500, 20000))), 100)
    np.testing.assert_allclose(deep.at(np.array([[25.0, 15.0, 0.0]])), 20000 / 100 / 1500 / 1000 * 1.1, rtol=0.3)


# ------------------------------------------------------------------------------------------------------- evidence from fits


def fits(prior: bool = True) -> tuple[JointFits, Prior | None]:
    """Fit two emitters; the last row does not converge."""
    psf = GaussianSettings(width_nm=130, roi_px=17).build((100.0, 100.0)).requires_grad_(False)
    photons = torch.full((1, 1, 26, 26), 5.0)
    patch = 1200 * psf(torch.zeros(1, 2), torch.zeros(1))[0, 0]
    for at in (8, 17):
        photons[0, 0, at - 8 : at + 9, at - 8 : at + 9] += patch
    at = torch.tensor([[8.1, 8.0, 1000.0], [17.0, 17.1, 1000.0], [-40.0, 5.0, 500.0]])
    known = Prior(at[:, :2].double() + 0.02, torch.full((3, 2), 50.0).double()) if prior else None
    search = Joint(psf, photons, Noise(), window_px=9)
    return search.fit(
        JointFits.beginning(torch.zeros(3, dtype=torch.long), at, torch.full((3, 1), 5.0)), known, tolerance=1e-8
    ), known


@pytest.mark.parametrize("prior", [False, True])
def test_evidence_is_the_fit_taken_apart(prior: bool) -> None:
    found, known = fits(prior)
    assert found.converged.tolist() == [True, True, False]
    evidence = Evidence.of(found, known, (30, 20))
    shift = np.array([20.0, 30.0])
    np.testing.assert_allclose(evidence.position()[:2], found.at[:2, :2].numpy() + shift, atol=1e-9)
    total = np.linalg.inv(evidence.own + evidence.prior)
    np.testing.assert_allclose(total[:2], found.covariance[:2, :2, :2].numpy(), rtol=1e-6)
    assert (evidence.own[2] == 0).all()  # tells nothing
    if known is not None:
        np.testing.assert_allclose(evidence.position()[2], known.mean[2].numpy() + shift)
        np.testing.assert_allclose(evidence.prior[0], np.eye(2) * 50)
        alone = np.linalg.solve(evidence.own[0], evidence.own_at[0])  # without the prior: the light's own place
        assert np.abs(alone - shift - [8.0, 8.0]).max() < np.abs(found.at[0, :2].numpy() - [8.0, 8.0]).max()
    joined = Evidence.concat([dict(vars(evidence)), dict(vars(evidence))])
    assert joined.own.shape == (6, 2, 2)


def test_what_is_known_from_elsewhere_counts_in_part() -> None:
    place = np.array([[1.0, 1.0], [1.1, 1.0]])
    own = np.linalg.inv(covariances(2))
    prior = np.broadcast_to(np.eye(2) * 100.0, (2, 2, 2)).copy()
    at, from_elsewhere = np.einsum("nij,nj->ni", own, place), np.einsum("nij,nj->ni", prior, np.add(place, [0.2, 0.0]))
    evidence = Evidence(own, at, prior, from_elsewhere, np.ones(2))
    links = Links(np.array([1, -1]), np.array([-1, 0]), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    weights = np.array([1 / SIGMA**2, 1 / SIGMA**2, 100.0, PRIORS_SHARE * 100.0])
    np.testing.assert_allclose(share(evidence, links)[0, 0], weights @ [1.0, 1.1, 1.2, 1.3] / weights.sum())
    doubtful = Links(links.after, links.before, 0.3 * links.p_after, 0.3 * links.p_before)
    weights[[1, 3]] *= 0.3
    np.testing.assert_allclose(share(evidence, doubtful)[0, 0], weights @ [1.0, 1.1, 1.2, 1.3] / weights.sum())


def test_priors_of_overlapping_frames_do_not_add_up() -> None:
    n = 5
    prior = np.broadcast_to(np.eye(2) * 400.0, (n, 2, 2)).copy()
    weak = np.broadcast_to(np.eye(2) * 1e-6, (n, 2, 2)).copy()
    evidence = Evidence(weak, np.zeros((n, 2)), prior, np.zeros((n, 2)), np.ones(n))
    steps = np.arange(n)
    links = Links(np.append(steps[1:], -1), np.append(-1, steps[:-1]), np.append(np.ones(4), 0), np.append(0, np.ones(4)))
    for seen in (1, 3):  # five frames in a row hold the light of seven, of which each prior has seen three
        np.testing.assert_allclose(variances(evidence, links, seen), seen / (n + seen - 1) / 400.0)
    strong = Evidence(100 * prior, np.zeros((n, 2)), prior, np.zeros((n, 2)), np.full(n, 2.0))
    np.testing.assert_allclose(variances(strong, links, 3), 2.0 / (n * 40000.0), rtol=1e-6)


def test_each_coordinate_is_known_for_itself() -> None:
    """Light that says much of x and y says no more of the depth than it does, whatever the units."""
    own = np.diag([1e5, 1e5, 1e-6])[None]
    nothing = np.zeros((1, 3, 3))
    evidence = Evidence(own, nothing[:, 0], nothing, nothing[:, 0], np.ones(1))
    np.testing.assert_allclose(variances(evidence, unlinked(1), 1), [[1e-5, 1e-5, 1e6]], rtol=1e-5)


def test_of_nothing_known_the_variance_is_infinite() -> None:
    nothing = np.zeros((1, 2, 2))
    assert np.isinf(variances(Evidence(nothing, nothing[:, 0], nothing, nothing[:, 0], np.ones(1)), unlinked(1), 1)).all()
