"""Compare localizations with the truth: pairing, numbers of the SMLM challenge, offsets, stated errors, colours, classes of voxels, tables."""

from .challenge import Assessment, assess, assess_all
from .colours import ColourConfusion, colour_confusion, describe_colours
from .coverage import Coverage, Pulls, coverage, in_words, read_pulls
from .matching import Pairs, match
from .offset import Offset, find_offset, read_wobble, remove_offset, shift_truth
from .subpixel import Evenness, subpixel_evenness
from .summary import describe
from .voxels import VoxelConfusion, voxel_confusion

__all__ = [
    "Assessment",
    "ColourConfusion",
    "Coverage",
    "Evenness",
    "Offset",
    "Pairs",
    "Pulls",
    "VoxelConfusion",
    "assess",
    "assess_all",
    "colour_confusion",
    "coverage",
    "describe",
    "describe_colours",
    "find_offset",
    "in_words",
    "match",
    "read_pulls",
    "read_wobble",
    "remove_offset",
    "shift_truth",
    "subpixel_evenness",
    "voxel_confusion",
]
