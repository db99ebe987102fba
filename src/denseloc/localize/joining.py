"""Join predictions that speak of one emitter: the surest takes its near ones to itself, and so on with what is left."""

from __future__ import annotations

import numpy as np


def join(probability: np.ndarray, neighbours: np.ndarray, near: np.ndarray, rounds: int) -> np.ndarray:
    """Give each prediction the number of the one that it belongs to.

    In a round each prediction that no free near one surpasses founds a group, and the free near ones join the surest of the founders near
    them. A chain of near ones is so not swallowed whole: what is near a member, but not near a founder, founds a group in the next round.
    What is free after the last round stays alone. As a round looks no farther than the neighbours of neighbours, so does the result
    depend on nothing farther away than ``2 rounds`` neighbours.

    Args:
        probability: (m,) of equal ones the earlier comes first.
        neighbours: (m, k) numbers of predictions; m where there is none.
        near: (m, k) whether the neighbour says the same; symmetric.
        rounds: at least 1.

    Returns:
        (m,) number of the founder of each one's group, its own for founders.
    """
    m = len(probability)
    group = np.arange(m)
    if not near.any():
        return group
    padded = np.append(probability, -1.0)
    mine, theirs = probability[:, None], padded[neighbours]
    surpassed = near & ((theirs > mine) | ((theirs == mine) & (neighbours < group[:, None])))
    free = np.append(np.ones(m, bool), False)
    for _ in range(rounds):
        founder = np.append(free[:-1] & ~(surpassed & free[neighbours]).any(1), False)
        offered = near & founder[neighbours]
        member = free[:-1] & ~founder[:-1] & offered.any(1)
        best = np.where(offered[member], theirs[member], -1.0).argmax(1)
        group[member] = np.take_along_axis(neighbours[member], best[:, None], 1)[:, 0]
        free[:-1] &= ~(founder[:-1] | member)
        if not free.any():
            break
    return group


def weighted(group: np.ndarray, weight: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum the weights and average the places of groups.

    Args:
        group: (m,) as `join` gives it.
        weight: (m,) above 0.
        place: (m, axes).

    Returns:
        (g,) founders, rising; (g,) their summed weights; (g, axes) their weighted mean places.
    """
    founders, slot = np.unique(group, return_inverse=True)
    total = np.bincount(slot, weight, len(founders))
    mean = np.stack([np.bincount(slot, weight * axis, len(founders)) for axis in place.T], 1) / np.maximum(total, 1e-12)[:, None]
    return founders, total, mean


def join_lists(number: np.ndarray, probability: np.ndarray, place: np.ndarray, rounds: int) -> np.ndarray:
    """Join the members of lists that lie within 1 of each other.

    Args:
        number: (m,) number of the list that each belongs to, rising.
        probability: (m,).
        place: (m, axes) in units of the largest distance.
        rounds: as for `join`.

    Returns:
        (m,) as `join` gives it.
    """
    m = len(number)
    counts = np.unique(number, return_counts=True)[1]
    begin = np.repeat(np.cumsum(counts) - counts, counts)
    neighbours = begin[:, None] + np.arange(counts.max(initial=0))
    neighbours[neighbours >= (begin + np.repeat(counts, counts))[:, None]] = m
    neighbours[neighbours == np.arange(m)[:, None]] = m
    far = np.concatenate((place, np.full((1, place.shape[1]), np.inf)))
    return join(probability, neighbours, np.square(far[neighbours] - place[:, None]).sum(2) <= 1, rounds)


def surest(frame: np.ndarray, window: np.ndarray, probability: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Keep of the finds of one molecule by several windows the surest: (m,) True for those that no near one of another window surpasses.

    Args:
        frame, window: (m,) where each was found; frames rise.
        probability: (m,).
        place: (m, axes) in units of the largest distance at which two finds are one.
    """
    keep = np.ones(len(frame), bool)
    for one in np.unique(frame):
        here = np.flatnonzero(frame == one)
        near = np.square(place[here, None] - place[here]).sum(2) <= 1
        other = window[here, None] != window[here]
        p, order = probability[here], np.arange(len(here))
        above = (p > p[:, None]) | ((p == p[:, None]) & (order < order[:, None]))
        keep[here] = ~(near & other & above).any(1)
    return keep
