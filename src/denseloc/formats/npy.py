"""`.npy` and `.npz`: one array (frame, y, x)."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from ..data.movie import ArraySource, FrameSource, Movie
from ..errors import MovieError
from .sources import RawFrames, check_dtype, check_frames, check_range, movie_of, whole_frames


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
                arrays = [info for info in archive.infolist() if info.filename.endswith(".npy")]
                if len(arrays) != 1:
                    names = ", ".join(info.filename.removesuffix(".npy") for info in arrays) or "none"
                    raise MovieError(f"{path}: {len(arrays)} arrays ({names}), expected one; save the movie alone with numpy.save")
                files: Sequence[Path] | BinaryIO
                with archive.open(arrays[0]) as member:
                    shape, fortran, dtype = _header(member, path)
                    if fortran:
                        raise MovieError(
                            f"{path}: the array is in Fortran order, expected C order; save it with numpy.ascontiguousarray"
                        )
                    if arrays[0].compress_type == zipfile.ZIP_STORED:
                        files, first = [path], _data_offset(path, arrays[0]) + member.tell()
                    else:
                        files, first = _unpacked(member), 0
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise MovieError(f"{path}: not a whole .npz archive ({error}); copy or save it again") from error
        offsets = first + np.arange(shape[0], dtype=np.int64) * (shape[1] * shape[2] * dtype.itemsize)
        return movie_of(RawFrames(files, offsets, shape[1:], dtype, str(path)), shape[0], shape[1:], path)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Find where the data of an uncompressed member begin: after the local header and its two texts."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + name_length + extra_length


def _unpacked(member: IO[bytes]) -> BinaryIO:
    """Copy the rest of an archive member into a temporary file without a name."""
    file: BinaryIO = tempfile.TemporaryFile(prefix="denseloc-")  # type: ignore[assignment] # noqa: SIM115
    whole = False
    try:
        shutil.copyfileobj(member, file, 1 << 20)
        whole = True
    finally:
        if not whole:
            file.close()
    return file


def _header(file: IO[bytes], path: Path) -> tuple[tuple[int, int, int], bool, np.dtype]:
    """Read the header of an array: shape, whether in Fortran order, number type."""
    try:
        version = npy_format.read_magic(file)  # type: ignore[arg-type]
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(file)  # type: ignore[arg-type]
    except (ValueError, struct.error, SyntaxError) as error:
        raise MovieError(f"{path}: not a NumPy array file ({str(error).splitlines()[0][:100]}); save it with numpy.save") from error
    if dtype.hasobject:
        raise MovieError(f"{path}: holds pickled objects, which are not read; save the numbers themselves with numpy.save")
    if len(shape) != 3 or 0 in shape:
        raise MovieError(f"{path}: array of shape {shape}, expected (frame, y, x); reshape it before saving")
    return shape, fortran, check_dtype(dtype, str(path))


def _mapped(path: Path, shape: tuple[int, int, int], dtype: np.dtype, offset: int, size: int) -> FrameSource:
    """Map an array in Fortran order, whose frames do not lie in one piece."""
    if size - offset < int(np.prod(shape)) * dtype.itemsize:
        raise MovieError(f"{path}: truncated, and in Fortran order, so no frame is whole; copy or save it again")
    return _MappedFrames(np.memmap(path, dtype, "r", offset, shape, order="F"), str(path))


class _MappedFrames(ArraySource):
    def __init__(self, array: np.ndarray, name: str) -> None:
        super().__init__(array)
        self.name = name

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self.array), self.name)
        native = self.array.dtype.newbyteorder("=")
        return check_frames(np.array(self.array[start:stop], dtype=native, order="C"), start, self.name)
