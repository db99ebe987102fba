"""Compare localizations with the truth: pairing, the numbers of the SMLM challenge, offsets, stated errors, classes of voxels, a table for people."""

from .challenge import Assessment, assess, assess_all
from .coverage import Coverage, Pulls, coverage, in_words, read_pulls
from .matching import Pairs, match
from .offset import Offset, find_offset, read_wobble, remove_offset, shift_truth
from .summary import describe
from .voxels import VoxelConfusion, voxel_confusion

__all__ = [
    "Assessment",
    "Coverage",
    "Offset",
    "Pairs",
    "Pulls",
    "VoxelConfusion",
    "assess",
    "assess_all",
    "coverage",
    "describe",
    "find_offset",
    "in_words",
    "match",
    "read_pulls",
    "read_wobble",
    "remove_offset",
    "shift_truth",
    "voxel_confusion",
]
