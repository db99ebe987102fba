"""`.npy` and `.npz`: one array (frame, y, x)."""

from __future__ import annotations

import io
import lzma
import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from ..data.movie import ArraySource, FrameSource, Movie
from ..errors import MovieError
from .sources import RawFrames, check_dtype, check_frames, check_range, check_size, movie_of, shown, whole_frames

LONGEST_HEADER = 1 << 16
LARGE_BYTES, MOST_PACKED = 1 << 28, 250
"""An array larger than this that is packed into less than its 250th is no movie: noise cannot be packed so."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, struct.error)
"""What zipfile raises on damaged archives, and on those with a password."""


class Npy:
    """An array file, read frame by frame."""

    name = "NumPy array"
    suffixes: tuple[str, ...] = (".npy",)

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open the movie.

        Raises:
            MovieError: not an array (frame, y, x) of numbers, pickled, or truncated.
        """
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(file, path)
            offset, size = file.tell(), path.stat().st_size
        if fortran:
            return movie_of(_mapped(path, shape, dtype, offset, size), shape[0], shape[1:], path)
        frame_bytes = shape[1] * shape[2] * dtype.itemsize
        n = whole_frames(shape[0], (size - offset) // frame_bytes, str(path), allow_truncated)
        source = RawFrames([path], offset + np.arange(n, dtype=np.int64) * frame_bytes, shape[1:], dtype, str(path))
        return movie_of(source, n, shape[1:], path)


class Npz:
    """An archive with a single array; one that is compressed is unpacked into a temporary file at opening."""

    name = "NumPy archive"
    suffixes: tuple[str, ...] = (".npz",)

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open the movie; an archive keeps its list of contents at its end, so a truncated one cannot be opened.

        Raises:
            MovieError: damaged, or not exactly one array (frame, y, x) of numbers.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                info = _only_array(archive, path)
                with archive.open(info) as member:
                    shape, fortran, dtype = _header(member, path)
                    if fortran:
                        raise MovieError(
                            f"{path}: the array is in Fortran order, expected C order; save it with numpy.ascontiguousarray"
                        )
                    n_bytes = math.prod(shape) * dtype.itemsize
                    _check_member(info, member.tell(), shape, n_bytes, path)
                    files: Sequence[Path] | BinaryIO
                    if info.compress_type == zipfile.ZIP_STORED:
                        files, first = [path], _data_offset(path, info) + member.tell()
                        if first + n_bytes > path.stat().st_size:
                            raise zipfile.BadZipFile("the array lies beyond the end of the file")
                    else:
                        files, first = _unpacked(member, n_bytes, path), 0
        except _DAMAGE as error:
            raise MovieError(f"{path}: not a whole .npz archive ({str(error)[:120]}); copy or save it again") from error
        n = whole_frames(shape[0], shape[0], str(path), False)
        offsets = first + np.arange(n, dtype=np.int64) * (shape[1] * shape[2] * dtype.itemsize)
        return movie_of(RawFrames(files, offsets, shape[1:], dtype, str(path)), n, shape[1:], path)


def _only_array(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Find the one array of an archive."""
    arrays = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    if len(arrays) != 1:
        names = ", ".join(info.filename.removesuffix(".npy")[:40] for info in arrays[:5]) or "none"
        more = ", ..." if len(arrays) > 5 else ""
        raise MovieError(f"{path}: {len(arrays)} arrays ({names}{more}), expected one; save the movie alone with numpy.save")
    return arrays[0]


def _check_member(info: zipfile.ZipInfo, header: int, shape: tuple[int, int, int], n_bytes: int, path: Path) -> None:
    """Compare what the array's header claims with what the archive holds, before anything is unpacked."""
    found = info.file_size - header
    if found != n_bytes:
        claimed = f"{shown(n_bytes)} bytes for an array of shape {shown(shape)}"
        raise MovieError(f"{path}: holds {found} bytes, expected {claimed}; copy or save it again")
    if n_bytes > LARGE_BYTES and n_bytes > MOST_PACKED * info.compress_size:
        raise MovieError(
            f"{path}: {info.compress_size} bytes that would unpack to {n_bytes}, expected at most {MOST_PACKED} times as many; "
            "this is no movie of a camera: save it with numpy.save if it is one"
        )


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Find where the data of an uncompressed member begin: after the local header and its two texts."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + name_length + extra_length


def _unpacked(member: IO[bytes], n_bytes: int, path: Path) -> BinaryIO:
    """Copy the rest of an archive member, ``n_bytes`` long, into a temporary file without a name."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if n_bytes > free:
        raise MovieError(
            f"{path}: unpacks to {n_bytes} bytes, {free} are free in {tempfile.gettempdir()}; free some space, set TMPDIR to another "
            "folder, or save the movie with numpy.save"
        )
    file: BinaryIO = tempfile.TemporaryFile(prefix="denseloc-")  # type: ignore[assignment] # noqa: SIM115
    whole = False
    try:
        shutil.copyfileobj(member, file, 1 << 20)
        if file.tell() != n_bytes:
            raise EOFError(f"{file.tell()} of {n_bytes} bytes")
        whole = True
    finally:
        if not whole:
            file.close()
    return file


def _header(file: IO[bytes], path: Path) -> tuple[tuple[int, int, int], bool, np.dtype]:
    """Read the header of an array: shape, whether in Fortran order, number type."""
    try:
        version = npy_format.read_magic(file)  # type: ignore[arg-type]
        count = file.read(2 if version == (1, 0) else 4)
        length = int.from_bytes(count, "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(io.BytesIO(count + file.read(length)))  # type: ignore[arg-type]
    except (ValueError, struct.error, SyntaxError, TypeError, RecursionError, MemoryError, TokenError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise MovieError(f"{path}: not a NumPy array file ({reason}); save it with numpy.save") from error
    if dtype.hasobject:
        raise MovieError(f"{path}: holds pickled objects, which are not read; save the numbers themselves with numpy.save")
    if len(shape) != 3 or min(shape) < 1:
        raise MovieError(f"{path}: array of shape {shown(shape)}, expected (frame, y, x); reshape it before saving")
    check_size(shape[1:], str(path))
    return shape, fortran, check_dtype(dtype, str(path))


def _mapped(path: Path, shape: tuple[int, int, int], dtype: np.dtype, offset: int, size: int) -> FrameSource:
    """Map an array in Fortran order, whose frames do not lie in one piece."""
    if size - offset < math.prod(shape) * dtype.itemsize:
        raise MovieError(f"{path}: truncated, and in Fortran order, so no frame is whole; copy or save it again")
    whole_frames(shape[0], shape[0], str(path), False)
    return _MappedFrames(np.memmap(path, dtype, "r", offset, shape, order="F"), str(path))


class _MappedFrames(ArraySource):
    def __init__(self, array: np.ndarray, name: str) -> None:
        super().__init__(array)
        self.name = name

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self.array), self.name)
        native = self.array.dtype.newbyteorder("=")
        return check_frames(np.array(self.array[start:stop], dtype=native, order="C"), start, self.name)
