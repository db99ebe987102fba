"""The sum of a method's own images over a movie, kept beside the finished blocks of the table so that a run can go on."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from .data import Image, Movie
from .errors import ModelError, OutputError
from .files import check_writable, replacing
from .journal import Journal
from .localize import Localizer
from .machine import free_bytes
from .render import save_tiff
from .units import PixelSize

SUFFIXES = (".tif", ".tiff")
SECONDS = 60.0
"""From one writing of the sum to the next: what a run that is killed loses at most, besides its last block."""
BYTES_PER_PX = 8
"""Of the sum, and of the picture that is added to it."""
NAME = re.compile(r"picture-(\d{10})\.npy")


def _size(movie: Movie, finer: int) -> tuple[int, int]:
    """Give rows and columns of the picture."""
    rows, columns = movie.shape_px
    return rows * finer, columns * finer


def check_image(out: Path, movie: Movie, localizer: Localizer, method: str) -> None:
    """Check, before the work, that the method gives an image and that it can be written.

    Raises:
        OutputError: the suffix is not that of a TIFF, the target cannot be written or is the movie, or memory does not suffice.
        ModelError: the method gives a table alone.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(f"image {out.name}: the suffix '{out.suffix}' is not that of a TIFF; expected a name that ends in .tif")
    if not localizer.picture_px:
        raise ModelError(
            f"method '{method}' gives a table and no image of its own; leave the image (--image) out and render the table"
        )
    needed, free = BYTES_PER_PX * math.prod(_size(movie, localizer.picture_px)), free_bytes(torch.device("cpu"))
    if needed > free:
        rows, columns = _size(movie, localizer.picture_px)
        raise OutputError(
            f"image {out.name}: {columns} x {rows} pixels need {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free; localize a region "
            "(--roi), or leave the image (--image) out and render the table"
        )
    target = check_writable(out)
    if movie.path is not None and target == Path(movie.path).resolve():
        raise OutputError(f"image {out}: this is the movie; choose another name")


class PictureSum:
    """The sum so far, kept in the journal's folder under the name of the frame that comes next.

    It is written now and then and when a run is ended before its end, not with each block. A run that goes on begins with the last sum that
    the finished blocks reach up to, and works the blocks behind it anew. The sum before the last one stays, for a run that was ended when its
    last block was in the sum and not in the journal yet.

    Args:
        journal: of the table; forgets the blocks that are in no sum.
        movie: whose frames are worked on.
        finer: pixels of the picture per camera pixel and axis.
    """

    def __init__(self, journal: Journal, movie: Movie, finer: int) -> None:
        self.folder, self.finer = journal.folder, finer
        self.seconds = SECONDS
        self.total = np.zeros(_size(movie, finer), np.float32)
        begin = next((kept for kept in self._kept() if kept <= journal.next_frame and self._load(kept)), movie.frames[0])
        self._remove_all_but(begin)
        journal.forget_from(begin)
        self.next_frame: int | None = begin  # None while a picture is being added
        self.written_frame, self.written = begin, time.monotonic()

    def __enter__(self) -> PictureSum:
        """Begin to add."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Keep the sum of a run that ends before its end; one that is aborted falls back on the last one that was kept."""
        if isinstance(error, (Exception, KeyboardInterrupt)):
            with suppress(OutputError):  # what ended the run is what has to be told
                self._keep()

    def _file(self, next_frame: int) -> Path:
        return self.folder / f"picture-{next_frame:010d}.npy"

    def _kept(self) -> list[int]:
        """List the frames that come next after the sums that were kept, the last one first."""
        found = (NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(name[1]) for name in found if name), reverse=True)

    def _remove_all_but(self, *wanted: int) -> None:
        for old in self._kept():
            if old not in wanted:
                self._file(old).unlink()

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
        """Add the picture of the frames (start, stop) of a block, and keep the sum if that was not done for long."""
        self.next_frame = None
        self.total += picture
        self.next_frame = span[1]
        if time.monotonic() - self.written >= self.seconds:
            self._keep()

    def _keep(self) -> None:
        """Write the sum as it is, and remove those before the last one."""
        if self.next_frame is None or self.next_frame == self.written_frame:
            return
        with replacing(self._file(self.next_frame)) as temporary, temporary.open("wb") as file:
            np.save(file, self.total)
        self._remove_all_but(self.next_frame, self.written_frame)
        self.written_frame, self.written = self.next_frame, time.monotonic()

    def write(self, out: Path, movie: Movie, pixel_size_nm: PixelSize) -> None:
        """Write the sum as a 32-bit TIFF that knows its pixel size and place."""
        y_nm, x_nm = pixel_size_nm
        row, column = movie.origin_px
        save_tiff(Image(self.total, (y_nm / self.finer, x_nm / self.finer), (row * y_nm, column * x_nm)), out)
