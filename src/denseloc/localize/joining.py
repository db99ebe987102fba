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
