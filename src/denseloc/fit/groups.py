"""Which emitters of a frame are fitted together."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def neighbours(frame: np.ndarray, position_px: np.ndarray, distance_px: float) -> np.ndarray:
    """Find pairs in one frame that lie closer along both axes than a distance.

    Args:
        frame: (n,) numbers of the frames.
        position_px: (n, 2).
        distance_px: in pixels.

    Returns:
        (pairs, 2) indices, the smaller one first.
    """
    if len(frame) < 2:
        return np.zeros((0, 2), np.int64)
    apart = frame[:, None].astype(float) * 4 * distance_px  # frames lie too far from one another to be neighbours
    tree = cKDTree(np.concatenate((apart, position_px), 1))
    return tree.query_pairs(distance_px, p=np.inf, output_type="ndarray").astype(np.int64).reshape(-1, 2)


def group(frame: np.ndarray, position_px: np.ndarray, distance_px: float, most: int) -> np.ndarray:
    """Put emitters into groups: those that neighbours lead to; large groups are halved across their longer side until they are small enough.

    Args:
        frame, position_px, distance_px: as for `neighbours`.
        most: emitters in a group.

    Returns:
        (n,) number of the group, counted from 0 without gaps.
    """
    n = len(frame)
    pairs = neighbours(frame, position_px, distance_px)
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(links, directed=False) if n else (0, np.zeros(0, np.int64))
    sizes = np.bincount(label, minlength=1)
    following = int(label.max()) + 1 if n else 0
    for large in np.flatnonzero(sizes > most):
        for part in _halved(np.flatnonzero(label == large), position_px, most)[1:]:
            label[part] = following
            following += 1
    return label.astype(np.int64)


def turns(label: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Give each group a turn, so that groups which share a pair do not have the same one.

    Groups that were cut from one crowd are fitted one after the other: renewed at once, they would answer to one another's last step and swing.

    Args:
        label: (n,) numbers of the groups.
        pairs: (pairs, 2) indices of emitters near one another.

    Returns:
        (groups,) turns, 0 for all that have no such neighbour.
    """
    turn = np.zeros(int(label.max()) + 1 if len(label) else 0, np.int64)
    edges = np.unique(np.sort(label[pairs], 1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    while len(alike := edges[turn[edges[:, 0]] == turn[edges[:, 1]]]):
        turn[np.unique(alike[:, 1])] += 1
    return turn


def _halved(members: np.ndarray, position_px: np.ndarray, most: int) -> list[np.ndarray]:
    if len(members) <= most:
        return [members]
    at = position_px[members]
    axis = int(np.ptp(at, 0).argmax())
    order = members[np.argsort(at[:, axis], kind="stable")]
    middle = len(order) // 2
    return [*_halved(order[:middle], position_px, most), *_halved(order[middle:], position_px, most)]
