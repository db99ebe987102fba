"""Localizations and truth as classes of voxels: which voxels hold a molecule, and which errors are flips across a border.

Source: Aritake et al., Results in Optics 1 (2020) 100019, tables 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import Localizations
from ..errors import TableError


@dataclass(frozen=True)
class VoxelConfusion:
    """Numbers of voxels; several rows of a table in one voxel count once.

    Args:
        TP, FP, FN, TN: found and true, found only, true only, neither.
        paired: false positives that touch a false negative, one to one: molecules seen on the wrong side of a border. They are in FP and in FN.
        fp_adjacent: other false positives that touch a true voxel, found or not.
        fp_alone: false positives that touch none.
        fn_adjacent: other false negatives that touch a found voxel.
        fn_alone: false negatives that touch none.
    """

    TP: int
    FP: int
    FN: int
    TN: int
    paired: int
    fp_adjacent: int
    fp_alone: int
    fn_adjacent: int
    fn_alone: int

    @property
    def jaccard(self) -> float:
        """``TP / (TP + FP + FN)``; 1 where there is nothing to find."""
        every = self.TP + self.FP + self.FN
        return self.TP / every if every else 1.0

    @property
    def jaccard_across_borders(self) -> float:
        """The same with the paired ones counted as found."""
        every = self.TP + self.FP + self.FN - self.paired
        return (self.TP + self.paired) / every if every else 1.0


def voxel_confusion(
    table: Localizations,
    truth: Localizations,
    *,
    voxel_nm: tuple[float, float, float],
    shape: tuple[int, int, int],
    n_frames: int,
    z_nm: float = 0.0,
) -> VoxelConfusion:
    """Count the voxels of frames 0 .. n_frames - 1.

    Rows outside of the volume count in its nearest voxel. A false positive is paired with the touching (3 x 3 x 3) false negative whose molecule
    is nearest to its localization, in voxels, closest pairs first.

    Args:
        table, truth: with z_nm where the volume has more than one slice.
        voxel_nm: (z, y, x) size of a voxel.
        shape: voxels along (z, y, x).
        n_frames: number of frames.
        z_nm: lower end of the volume in depth; x and y begin at 0.

    Raises:
        TableError: a table lacks z_nm, or has frames outside of 0 .. n_frames - 1.
    """
    found, found_place = _voxels(table, "localizations", voxel_nm, shape, n_frames, z_nm)
    true, true_place = _voxels(truth, "truth", voxel_nm, shape, n_frames, z_nm)
    is_hit, is_seen = np.isin(found, true), np.isin(true, found)
    false, missed = np.flatnonzero(~is_hit), np.flatnonzero(~is_seen)
    paired = _pair(found[false], found_place[false], true[missed], true_place[missed], shape)
    fp_left, fn_left = (np.setdiff1d(every, every[one]) for every, one in zip((false, missed), paired, strict=True))
    fp_adjacent = int(_touches(found[fp_left], true, shape).any(1).sum())
    fn_adjacent = int(_touches(true[fn_left], found, shape).any(1).sum())
    tp, fp, fn = int(is_hit.sum()), len(false), len(missed)
    return VoxelConfusion(
        TP=tp,
        FP=fp,
        FN=fn,
        TN=n_frames * int(np.prod(shape)) - tp - fp - fn,
        paired=len(paired[0]),
        fp_adjacent=fp_adjacent,
        fp_alone=len(fp_left) - fp_adjacent,
        fn_adjacent=fn_adjacent,
        fn_alone=len(fn_left) - fn_adjacent,
    )


def _voxels(
    table: Localizations, what: str, voxel_nm: tuple[float, float, float], shape: tuple[int, int, int], n_frames: int, z_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give the numbers (m,) of the voxels that hold rows, rising, and (m, 3) the place z, y, x in voxels of the first row in each."""
    if shape[0] > 1 and not table.is_3d:
        raise TableError(f"the {what} have no column z_nm, which {shape[0]} slices of voxels need; give one slice")
    if len(table) and not (table.frame.min() >= 0 and table.frame.max() < n_frames):
        raise TableError(f"the {what} have frames {table.frame.min()} .. {table.frame.max()}; expected 0 .. {n_frames - 1}")
    z = (table.z_nm - z_nm) / voxel_nm[0] if shape[0] > 1 else np.zeros(len(table))
    place = np.stack((z, table.y_nm / voxel_nm[1], table.x_nm / voxel_nm[2]), 1)
    corner = np.clip(np.floor(place).astype(np.int64), 0, np.array(shape) - 1)
    number = np.ravel_multi_index((table.frame, *corner.T), (n_frames, *shape)) if len(table) else np.empty(0, np.int64)
    distinct, first = np.unique(number, return_index=True)
    return distinct, place[first]


def _neighbours(number: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Give the numbers (m, 26) of the voxels that touch each; -1 outside of the volume."""
    sides = np.array(shape)
    per_frame = int(sides.prod())
    frame, inside = number // per_frame, number % per_frame
    at = np.stack(np.unravel_index(inside, shape), 1)
    steps = np.array([(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) != (0, 0, 0)])
    there = at[:, None] + steps
    here = ((there >= 0) & (there < sides)).all(2)
    z, y, x = np.clip(there, 0, sides - 1).transpose(2, 0, 1)
    return np.where(here, frame[:, None] * per_frame + np.ravel_multi_index((z, y, x), shape), -1)


def _touches(number: np.ndarray, others: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Tell which neighbours (m, 26) of voxels are among the others."""
    return np.isin(_neighbours(number, shape), others)


def _pair(
    false: np.ndarray, false_place: np.ndarray, missed: np.ndarray, missed_place: np.ndarray, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pair touching voxels one to one, closest first; gives positions in ``false`` and in ``missed``, which rise."""
    neighbours = _neighbours(false, shape)
    one, which = np.nonzero(np.isin(neighbours, missed))
    other = np.searchsorted(missed, neighbours[one, which])
    distance = np.square(false_place[one] - missed_place[other]).sum(1)
    taken_one, taken_other = np.zeros(len(false), bool), np.zeros(len(missed), bool)
    for k in np.argsort(distance, kind="stable"):
        if not taken_one[one[k]] and not taken_other[other[k]]:
            taken_one[one[k]] = taken_other[other[k]] = True
    return np.flatnonzero(taken_one), np.flatnonzero(taken_other)
