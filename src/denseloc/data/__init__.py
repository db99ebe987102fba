"""What flows on the two stairs."""

from .columns import COLUMNS, CONVENTIONS, Column
from .compression import Compression, compressed
from .emitters import Emitters
from .frames import Frames
from .grid import Grid
from .image import Image
from .localizations import Localizations, Provenance
from .movie import Block, FrameSource, Movie, movie_from_array

__all__ = [
    "COLUMNS",
    "CONVENTIONS",
    "Block",
    "Column",
    "Compression",
    "Emitters",
    "FrameSource",
    "Frames",
    "Grid",
    "Image",
    "Localizations",
    "Movie",
    "Provenance",
    "compressed",
    "movie_from_array",
]
