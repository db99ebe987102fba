"""Compare localizations with the truth: pairing, the numbers of the SMLM challenge, offsets, a table for people."""

from .challenge import Assessment, assess, assess_all
from .matching import Pairs, match
from .offset import Offset, find_offset, read_wobble, remove_offset, shift_truth
from .summary import describe

__all__ = [
    "Assessment",
    "Offset",
    "Pairs",
    "assess",
    "assess_all",
    "describe",
    "find_offset",
    "match",
    "read_wobble",
    "remove_offset",
    "shift_truth",
]
