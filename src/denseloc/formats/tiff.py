"""TIFF: plain, ImageJ (also beyond 4 GB), OME, BigTIFF, Micro-Manager and OME sets of several files, folders of single frames.

Uncompressed frames are read straight from their place in the file; others are decoded page by page. All axes but (y, x) become
frames, in the order in which the file gives them.
"""

from __future__ import annotations

import logging
import math
import re
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.movie import Movie
from ..errors import MovieError
from .sources import (
    MOST_FRAMES,
    MOST_PX,
    RawFrames,
    check_dtype,
    check_frames,
    check_range,
    check_size,
    movie_of,
    whole_frames,
)
from .tiff_chain import Chain, walk
from .tiff_metadata import describe, most_declared

if TYPE_CHECKING:
    import tifffile

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
LARGE_BYTES, MOST_PACKED = 1 << 26, 2500
"""A frame larger than this that is packed into less than its 2500th is no frame of a camera."""
_DAMAGE = (
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    ArithmeticError,
    struct.error,
)
"""What tifffile and the decoders raise on damaged files, besides TiffFileError."""
_hushed = threading.local()


class Tiff:
    """One TIFF file, or the first of a set of several."""

    name = "TIFF"
    suffixes: tuple[str, ...] = SUFFIXES

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open the movie.

        Raises:
            MovieError: not a TIFF, without pages, truncated, in colour, or with frames of different sizes.
        """
        with _quiet(), _damage_explained(path, MemoryError):  # no pixels are read here: only what is damaged asks for much memory
            tif = _opened(path)
            keep_open = False
            try:
                chain = walk(tif)
                if not tif.filehandle.size or not chain.n_pages:
                    raise MovieError(f"{path}: a TIFF without pages, expected at least one frame; export the movie again")
                pixel_size_nm, tags = describe(tif)
                source = _frames(tif, path, chain, allow_truncated)
                keep_open = isinstance(source, PagedFrames)
            finally:
                if not keep_open:
                    tif.close()
        return movie_of(source, len(source), source.shape_px, path, pixel_size_nm, tags)


class TiffFolder:
    """A folder of single-frame TIFF files, in the natural order of the numbers in their names."""

    name = "folder of TIFF frames"
    suffixes: tuple[str, ...] = ()

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open the movie; a folder with one TIFF file is that file's movie.

        Raises:
            MovieError: no TIFF in the folder, a file with several frames, or frames of different sizes.
        """
        files = sorted((f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")), key=_natural)
        if not files:
            raise MovieError(
                f"{path}: no TIFF file in this folder, expected single-frame .tif files; give a movie file or another folder"
            )
        first = Tiff().open(files[0], allow_truncated)
        if len(files) == 1:
            return first
        source = FolderFrames(files, first)
        return movie_of(source, len(files), first.field_px, path, first.pixel_size_nm, first.tags)


class PagedFrames:
    """Frames that are decoded page by page; the file stays open, one lock guards it."""

    def __init__(self, tif: tifffile.TiffFile, pages: Sequence[Any], shape_px: tuple[int, int], name: str) -> None:
        self.pages = pages
        self.shape_px = shape_px
        self.name = name
        self._lock = threading.Lock()
        weakref.finalize(self, tif.close)

    def __len__(self) -> int:
        return len(self.pages)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames start .. stop-1 as (n, y, x).

        Raises:
            MovieError: a frame is damaged or not finite.
        """
        check_range(start, stop, len(self), self.name)
        counts = [self._page(frame) for frame in range(start, stop)]
        return check_frames(np.stack(counts) if counts else np.empty((0, *self.shape_px), np.uint16), start, self.name)

    def _page(self, frame: int) -> np.ndarray:
        page = self.pages[frame]
        with self._lock, _quiet(), _damage_explained(f"{self.name}: frame {frame}"):
            page.parent.filehandle.open()  # no change where it is open already; the other files of a set are not
            counts = page.asarray()
        if counts.shape != self.shape_px:
            raise MovieError(
                f"{self.name}: frame {frame} is {_size(counts.shape)}, expected {_size(self.shape_px)}; export the movie again"
            )
        return counts


class FolderFrames:
    """One file a frame; each is opened when it is read."""

    def __init__(self, files: Sequence[Path], first: Movie) -> None:
        self.files = files
        self.shape_px = first.field_px
        self.name = str(files[0].parent)
        self.dtype = first.read(0, 1).dtype
        self._check_files()

    def __len__(self) -> int:
        return len(self.files)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames start .. stop-1 as (n, y, x).

        Raises:
            MovieError: a file is damaged, has another size or several frames, or is not finite.
        """
        check_range(start, stop, len(self), self.name)
        counts = np.empty((stop - start, *self.shape_px), self.dtype)
        for frame in range(start, stop):
            counts[frame - start] = self._checked(self.files[frame]).read(0, 1)[0, 0]
        return check_frames(counts, start, self.name)

    def _check_files(self) -> None:
        """Look into the first file of each file size, so that frames of different shapes are found at opening, yet cheaply."""
        seen: set[int] = set()
        for file in self.files:
            size = file.stat().st_size
            if size not in seen:
                seen.add(size)
                self._checked(file)

    def _checked(self, file: Path) -> Movie:
        movie = Tiff().open(file)
        if movie.n_frames != 1:
            raise MovieError(
                f"{file}: {movie.n_frames} frames, expected one in each file of a folder; give this file itself as the movie"
            )
        if movie.field_px != self.shape_px:
            text = f"{_size(movie.field_px)}, expected {_size(self.shape_px)} as in {self.files[0].name}"
            raise MovieError(f"{file}: the frame is {text}; keep frames of one size in a folder")
        return movie


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort img2 before img10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", path.name)]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape) + " px"


def _opened(path: Path) -> tifffile.TiffFile:
    """Open what begins as a TIFF does."""
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise MovieError(f"{path}: not a TIFF file ({error}); give a TIFF, or rename the file to what it is") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's own warnings back: what matters of them is said by our errors."""
    logging.getLogger("tifffile").addFilter(_is_wanted)
    before = getattr(_hushed, "on", False)
    _hushed.on = True
    try:
        yield
    finally:
        _hushed.on = before


def _is_wanted(record: logging.LogRecord) -> bool:
    return not getattr(_hushed, "on", False)


@contextmanager
def _damage_explained(name: Path | str, *also: type[Exception]) -> Iterator[None]:
    import tifffile

    damage: tuple[type[Exception], ...] = (tifffile.TiffFileError, *_DAMAGE, *also)
    try:
        yield
    except damage as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise MovieError(f"{name}: damaged or not readable as TIFF ({reason}); copy or export the movie again") from error


def _frames(tif: tifffile.TiffFile, path: Path, chain: Chain, allow_truncated: bool) -> RawFrames | PagedFrames:
    """Find the frames of a file, and that all of them are there."""
    page = tif.pages.first
    if "S" in page.axes or page.samplesperpixel > 1:
        raise MovieError(f"{path}: a colour (RGB) image of shape {page.shape}, expected grey frames; split the channels, keep one")
    if page.ndim != 2 or page.dtype is None:
        raise MovieError(
            f"{path}: pages of shape {page.shape} ({page.axes}), expected (y, x) frames; export the movie as plain TIFF"
        )
    check_dtype(page.dtype, str(path))
    _check_page(page, path)
    run = _contiguous_run(tif, chain)
    if run is not None:
        frame_bytes = page.nbytes
        whole = (tif.filehandle.size - page.dataoffsets[0]) // frame_bytes
        n = whole_frames(run, whole, str(path), allow_truncated)
        offsets = page.dataoffsets[0] + np.arange(n, dtype=np.int64) * frame_bytes
        return RawFrames([path], offsets, *_kind(tif), str(path))
    return _paged(tif, path, chain, allow_truncated)


def _check_page(page: Any, path: Path) -> None:
    """Refuse a page that would need more memory than any frame, before one is decoded."""
    rows, columns = check_size(page.shape, str(path))
    if math.prod(page.chunks) > MOST_PX:
        raise MovieError(f"{path}: tiles of {_size(page.chunks)} in frames of {rows} x {columns} px; export the movie again")
    packed = min(sum(page.databytecounts), page.parent.filehandle.size)
    if page.nbytes > LARGE_BYTES and page.nbytes > MOST_PACKED * packed:
        raise MovieError(
            f"{path}: frames of {rows} x {columns} px in {packed} bytes, expected at least {page.nbytes // MOST_PACKED}; export it again"
        )


def _kind(tif: tifffile.TiffFile) -> tuple[tuple[int, int], np.dtype]:
    """Give (rows, columns) and the number type in the file."""
    page = tif.pages.first
    rows, columns = page.shape
    return (rows, columns), np.dtype(page.dtype).newbyteorder(tif.byteorder)


def _contiguous_run(tif: tifffile.TiffFile, chain: Chain) -> int | None:
    """Count the frames that the first page declares to follow each other after it without pages between them, or give None.

    ImageJ writes so (its hyperstacks beyond 4 GB have no other page at all), and tifffile.
    """
    page = tif.pages.first
    declared = _declared(tif)
    if declared < 2 or not page.is_final or not chain.uniform:
        return None
    start = page.dataoffsets[0]
    second = tif.pages[1].offset if chain.n_pages > 1 else chain.next_page
    if 0 < second < start + declared * page.nbytes:
        return None  # the next page stands before the end of the data: not one run
    if chain.next_page == 0 and chain.n_pages not in (1, declared):
        return None
    if chain.n_pages == declared and tif.pages[declared - 1].dataoffsets[0] != start + (declared - 1) * page.nbytes:
        return None
    return declared


def _declared(tif: tifffile.TiffFile) -> int:
    """Read how many frames the description of the first page promises, 0 if it does not."""
    if tif.imagej_metadata:
        axes = [int(tif.imagej_metadata.get(key, 1)) for key in ("frames", "slices", "channels")]
        return max(int(tif.imagej_metadata.get("images", 1)), math.prod(axes))
    shaped = tif.shaped_metadata
    if shaped and len(shaped) == 1:
        return math.prod(map(int, shaped[0]["shape"])) // math.prod(tif.pages.first.shape)
    return 0


def _paged(tif: tifffile.TiffFile, path: Path, chain: Chain, allow_truncated: bool) -> RawFrames | PagedFrames:
    """Take the frames one page each."""
    if chain.next_page != 0:
        pages = _of_one_shape(tif, path, chain.n_pages)
        expected = declared if (declared := _declared(tif)) > len(pages) else None
    else:
        pages = _series_pages(tif, path, chain)
        expected = len(pages)
    shape, dtype = _kind(tif)
    files, file_of, offsets, whole = _places(pages)
    absent = whole < len(pages) and pages[whole] is None
    what = "a file of the set is missing or the recording was ended early" if absent else "truncated"
    n = whole_frames(expected, whole, str(path), allow_truncated, what)
    if all(page.is_final for page in pages[:n]):
        return RawFrames(files, offsets[:n], shape, dtype, str(path), file_of[:n])
    return PagedFrames(tif, pages[:n], shape, str(path))


def _series_pages(tif: tifffile.TiffFile, path: Path, chain: Chain) -> list[Any]:
    """List the pages of the one series of images in a whole file, in the order that its metadata give; missing ones are None."""
    if not chain.uniform:
        return _of_one_shape(tif, path, chain.n_pages)
    if (declared := most_declared(tif)) > MOST_FRAMES:
        raise MovieError(
            f"{path}: its OME-XML speaks of {declared} images, expected at most {MOST_FRAMES}; export it as plain TIFF"
        )
    series = tif.series
    if len(series) != 1:
        pages = _of_one_shape(tif, path, chain.n_pages)
        if all(one.kind in ("shaped", "generic") for one in series):
            return pages  # frames that were written one by one
        raise MovieError(f"{path}: {len(series)} image series (positions?), expected one; export each as its own file")
    pages = list(series[0].pages)
    n_frames = math.prod(series[0].shape) // math.prod(tif.pages.first.shape)
    if len(pages) != n_frames:
        raise MovieError(
            f"{path}: {len(pages)} pages for {n_frames} frames ({series[0].kind}), expected one each; export it as plain TIFF"
        )
    return pages


def _of_one_shape(tif: tifffile.TiffFile, path: Path, n_pages: int) -> list[Any]:
    """List the pages in the order of the file."""
    first = tif.pages.first
    pages: list[Any] = [first]
    tif.pages.useframes = False
    for number in range(1, n_pages):
        page = tif.pages[number]
        if page.shape != first.shape or page.dtype != first.dtype:
            found, expected = f"{_size(page.shape)} {page.dtype}", f"{_size(first.shape)} {first.dtype}"
            raise MovieError(f"{path}: frame {number} is {found}, the first one {expected}; export frames of one kind")
        pages.append(page)
    return pages


def _places(pages: Sequence[Any]) -> tuple[list[Path], np.ndarray, np.ndarray, int]:
    """Find the file and the offset of each page, and how many of the first pages lie wholly inside of their files."""
    files: dict[str, int] = {}
    sizes: list[int] = []
    file_of, offsets = np.zeros(len(pages), np.int32), np.zeros(len(pages), np.int64)
    for number, page in enumerate(pages):
        if page is None or not page.dataoffsets or page.dataoffsets[0] == 0:
            return [Path(f) for f in files], file_of, offsets, number
        name = page.parent.filehandle.path
        if name not in files:
            files[name] = len(files)
            sizes.append(Path(name).stat().st_size)
        file_of[number], offsets[number] = files[name], page.dataoffsets[0]
        # a page in one piece needs its pixels, whatever its byte counts say
        ends = (
            [page.dataoffsets[0] + page.nbytes]
            if page.is_final
            else map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        )
        if max(ends) > sizes[files[name]]:
            return [Path(f) for f in files], file_of, offsets, number
    return [Path(f) for f in files], file_of, offsets, len(pages)
