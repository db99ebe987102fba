"""The sum of a method's own images over a movie, kept beside the finished blocks of the table so that a run can go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .data import Image, Movie
from .errors import ModelError, OutputError
from .files import check_writable, replacing
from .journal import Journal
from .localize import Localizer
from .render import save_tiff
from .units import PixelSize

SUFFIXES = (".tif", ".tiff")


def check_image(out: Path, movie: Movie, localizer: Localizer, method: str) -> None:
    """Check, before the work, that the method gives an image and that it can be written.

    Raises:
        OutputError: the suffix is not that of a TIFF, the target cannot be written, or is the movie.
        ModelError: the method gives a table alone.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(f"image {out.name}: the suffix '{out.suffix}' is not that of a TIFF; expected a name that ends in .tif")
    if not localizer.picture_px:
        raise ModelError(
            f"method '{method}' gives a table and no image of its own; leave the image (--image) out and render the table"
        )
    target = check_writable(out)
    if movie.path is not None and target == Path(movie.path).resolve():
        raise OutputError(f"image {out}: this is the movie; choose another name")


class PictureSum:
    """The sum so far, in one file of the journal's folder, named by the frame that comes next.

    The file of the next frame is written before the block is entered in the journal, and the one before removed with the next block: whenever
    a run is ended, the sum that belongs to the journal is there.

    Args:
        journal: of the table; begins anew if the sum that belongs to it is lost.
        movie: whose frames are worked on.
        finer: pixels of the picture per camera pixel and axis.
    """

    def __init__(self, journal: Journal, movie: Movie, finer: int) -> None:
        self.folder, self.finer = journal.folder, finer
        rows, columns = (side * finer for side in movie.shape_px)
        self.total = np.zeros((rows, columns), np.float32)
        if journal.next_frame > movie.frames[0] and not self._load(journal.next_frame):
            journal.begin_anew()

    def _file(self, next_frame: int) -> Path:
        return self.folder / f"picture-{next_frame:010d}.npy"

    def _load(self, next_frame: int) -> bool:
        try:
            kept = np.load(self._file(next_frame), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        if kept.shape != self.total.shape or kept.dtype != np.float32:
            return False
        self.total = kept
        return True

    def add(self, picture: np.ndarray, span: tuple[int, int]) -> None:
        """Add the picture of the frames (start, stop) of a block and keep the sum; those before that of ``start`` are not needed any more."""
        start, stop = span
        for old in self.folder.glob("picture-*.npy"):
            if old != self._file(start):
                old.unlink()
        self.total += picture
        with replacing(self._file(stop)) as temporary, temporary.open("wb") as file:
            np.save(file, self.total)

    def write(self, out: Path, movie: Movie, pixel_size_nm: PixelSize) -> None:
        """Write the sum as a 32-bit TIFF that knows its pixel size and place."""
        y_nm, x_nm = pixel_size_nm
        row, column = movie.origin_px
        save_tiff(Image(self.total, (y_nm / self.finer, x_nm / self.finer), (row * y_nm, column * x_nm)), out)
