"""Write a denser movie of the same sample: sums of frames that lie far apart."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..calibrate.conditions import Estimate, estimate_conditions
from ..camera import EMCCD, SCMOS, Camera, CameraSettings, SCMOSSettings
from ..data import Compression, Localizations, Movie, compressed
from ..data.compression import APART
from ..description import parse
from ..errors import CalibrationError, MovieError, OutputError
from ..files import check_writable, replacing
from ..formats import check_table, open_movie, read_table, write_table
from ..units import PixelSize, is_plausible_pixel_size, pixel_size_pair
from .movie_writing import write_tiff

BLOCK_PX = 1 << 22
NOMINAL_PIXEL_NM = 100.0
"""For measuring the offset of a movie that does not say its pixel size; it does not depend on it."""
OF_ONE_FRAME = re.compile(r"read.?noise|exposure", re.IGNORECASE)
"""Tags that do not hold for a sum."""
OF_THE_FILE = (
    "ImageJ",
    "images",
    "slices",
    "frames",
    "channels",
    "hyperstack",
    "mode",
    "unit",
    "loop",
    "fps",
    "min",
    "max",
    "Info",
    "shape",
)
MOST_TAGS, LONGEST_TAG = 400, 160
TRUTH, CAMERA = ".truth.parquet", ".camera.json"


@dataclass(frozen=True)
class Compressed:
    """What a compression left behind.

    Args:
        movie: TIFF of 16-bit counts, or of 32-bit floats where the sums do not fit.
        n_frames: frames of it.
        left_out: frames at the end of the source that were too few for a sum.
        offset_counts: what was taken as the camera's offset (its mean, where pixels differ), and where it came from.
        read_noise_factor: how many times the read noise is that of one frame.
        is_wide: whether the counts did not fit into 16 bits.
        camera: document of the camera of the sums, where the camera was given.
        truth: table of the same sums, where one was given.
    """

    movie: Path
    n_frames: int
    left_out: int
    offset_counts: Estimate
    read_noise_factor: float
    is_wide: bool
    camera: Path | None = None
    truth: Path | None = None


def compress(
    movie: Movie | Path | str,
    out: Path | str,
    *,
    factor: int,
    apart: int = APART,
    camera: Camera | None = None,
    offset_counts: float | None = None,
    planes: int | None = None,
    frames: tuple[int | None, int | None] | None = None,
    roi_px: tuple[int, int, int, int] | None = None,
    pixel_size_nm: float | PixelSize | None = None,
    truth: Path | str | None = None,
    progress: Callable[[int, int], None] = lambda done, n: None,
) -> Compressed:
    """Sum frames of a movie that lie far apart, and write the denser movie; the source is read twice, block by block.

    The camera's offset stays that of one frame, so that offset and gain of the camera hold for the new movie; its read noise is ``sqrt(factor)``
    times that of one frame. Where the camera is given, ``out`` with ``.camera.json`` holds the camera of the sums.

    Args:
        movie: a movie or its file or folder.
        out: movie to write, ending in .tif.
        factor: frames in a sum.
        apart: frames between them; more than a molecule stays on.
        camera: of the movie; its offset is used.
        offset_counts: of a dark pixel, where no camera is given; measured in the movie if None.
        planes: focal planes of a frame, where they follow one another as images of the file.
        frames: (start, stop) of the frames to use; those of the new movie count from 0.
        roi_px: (y0, x0, height, width) of the region to write; its first pixel is the first one of the new movie.
        pixel_size_nm: one number or (y, x); None takes what the file says.
        truth: table of the movie's emitters; ``out`` with ``.truth.parquet`` holds those of the new movie then.
        progress: told frames done and frames in all, of both readings.

    Raises:
        MovieError: the movie cannot be read or is too short, or an impossible number.
        CalibrationError: the offset cannot be measured.
        OutputError: a file cannot be written; nothing is left behind then.
    """
    out = Path(out)
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"movie {out.name}: expected a name that ends in .tif")
    if camera is not None and offset_counts is not None:
        raise MovieError("the offset is given twice, as a number (--offset) and with the camera (--camera); leave one of them out")
    which = Compression(factor, apart)
    given = movie if isinstance(movie, Movie) else open_movie(Path(movie))
    given = (given if planes is None else given.with_planes(planes)).crop(frames, roi_px)
    compressed(given, factor, apart)  # whether it is long enough, before the offset is measured
    check_writable(out)
    if given.path is not None and given.path.resolve() == out.resolve():
        raise OutputError(f"{out} is the movie itself; give another name")
    size = _pixel_size(given, pixel_size_nm)
    offset, told = _offset(given, camera, offset_counts, size)
    sums = compressed(given, factor, apart, offset)
    of_sums = None if camera is None else camera_of_sums(camera.crop(*given.roi_px), factor)
    if of_sums is not None:
        check_writable(out.with_suffix(CAMERA))
    rows = None if truth is None else _truth(Path(truth), out, which, given, size)
    low, high, is_float = _range(sums, progress)
    is_wide = is_float or low < 0 or high > np.iinfo(np.uint16).max
    dtype = np.dtype(np.float32 if is_wide else np.uint16)
    beside = None if of_sums is None else out.with_suffix(CAMERA)
    table = None if rows is None else out.with_suffix(TRUTH)
    with replacing(out) as temporary:
        shape = (sums.n_frames, sums.n_planes, *sums.shape_px)
        write_tiff(temporary, _pages(sums, dtype, progress), shape, dtype, size, _info(given, which, told))
        with _camera_beside(beside, of_sums):
            if table is not None and rows is not None:
                write_table(table, rows)  # the first to get its name; camera and movie are whole by then, and get theirs at once
    left = given.n_frames - which.n_used(given.n_frames)
    return Compressed(out, sums.n_frames, left, told, math.sqrt(factor), is_wide, beside, table)


def camera_of_sums(camera: Camera, factor: int) -> CameraSettings | None:
    """Give the settings of a camera for sums of its frames that hold its offset once; None for kinds that have no such noise."""
    if isinstance(camera, EMCCD):
        s = camera.settings
        more = {
            "read_noise_electrons": s.read_noise_electrons * math.sqrt(factor),
            "spurious_electrons": s.spurious_electrons * factor,
        }
        return s.model_copy(update=more)
    if not isinstance(camera, SCMOS):
        return None
    values: dict[str, Any] = {"kind": "scmos", "quantum_efficiency": camera.quantum_efficiency}
    maps = torch.stack(torch.broadcast_tensors(camera.offset, camera.electrons_per_count, camera.variance * factor)).double()
    if maps.ndim == 3:
        return parse(SCMOSSettings, {**values, "pixel_maps": maps.numpy()}, "camera")
    names = ("offset_counts", "electrons_per_count", "read_noise_electrons")
    offset, conversion, variance = (float(value) for value in maps)
    return parse(
        SCMOSSettings, {**values, **dict(zip(names, (offset, conversion, math.sqrt(variance) * conversion), strict=True))}, "camera"
    )


def _pixel_size(movie: Movie, given: float | PixelSize | None) -> PixelSize | None:
    size = movie.pixel_size_nm if given is None else pixel_size_pair(given)
    if size is not None and not is_plausible_pixel_size(size):
        raise MovieError(f"pixel size {size[1]:g} nm; expected 5 to 2000 nm in the sample plane: give it in nm (--pixel-size-nm)")
    return size


def _offset(
    movie: Movie, camera: Camera | None, given: float | None, size: PixelSize | None
) -> tuple[float | np.ndarray, Estimate]:
    """Give the offset, one number or (rows, columns) of the whole field, and a word on it."""
    if camera is not None:
        dark = camera.to_photons(torch.zeros(movie.field_px, dtype=torch.float64)).numpy()
        bright = camera.to_photons(torch.ones(movie.field_px, dtype=torch.float64)).numpy()
        offset = -dark / (bright - dark)
        mean = round(float(offset.mean()), 6)
        return offset, Estimate(mean, mean, mean, "counts", "given", "with the camera")
    if given is not None:
        if not math.isfinite(given):
            raise MovieError(f"offset {given} counts; expected a number")
        return given, Estimate(given, given, given, "counts", "given")
    try:
        found = estimate_conditions(movie, pixel_size_nm=size or NOMINAL_PIXEL_NM).offset_counts
    except CalibrationError as error:
        raise CalibrationError(f"{str(error).splitlines()[0]}\ngive the camera's offset: --offset COUNTS") from None
    return found.value, found


def _truth(table: Path, out: Path, which: Compression, movie: Movie, asked: PixelSize | None) -> Localizations:
    """Give the truth of the sums, whose positions count from the first pixel of the region."""
    target = out.with_suffix(TRUTH)
    if target.resolve() == table.resolve():
        raise OutputError(f"{target} is the truth of the movie itself; give the new movie another name")
    rows = which.table(read_table(table), movie.n_frames, movie.frames[0])
    y0, x0, height, width = movie.roi_px
    size = asked or rows.provenance.pixel_size_nm
    if size is None and (height, width) != movie.field_px:
        raise MovieError(
            "where a region lies in nm needs the pixel size, which neither movie nor truth says; give it: --pixel-size-nm NM"
        )
    size = size or (NOMINAL_PIXEL_NM, NOMINAL_PIXEL_NM)
    moved = rows.shifted(-x0 * size[1], -y0 * size[0])
    if (height, width) != movie.field_px:
        inside = (moved.x_nm >= 0) & (moved.x_nm < width * size[1]) & (moved.y_nm >= 0) & (moved.y_nm < height * size[0])
        moved = moved.select(inside)
    moved = moved.with_provenance(movie=out.name, shape_px=movie.shape_px)
    check_table(target, moved.provenance)
    check_writable(target)
    return moved


def _blocks(sums: Movie, done: int, progress: Callable[[int, int], None]) -> Iterator[np.ndarray]:
    """Read the sums block by block; ``done`` frames were read before."""
    for block in sums.blocks(max(1, BLOCK_PX // (sums.n_planes * sums.field_px[0] * sums.field_px[1]))):
        yield block.counts
        progress(done + block.stop, 2 * sums.n_frames)


def _range(sums: Movie, progress: Callable[[int, int], None]) -> tuple[float, float, bool]:
    """Find the least and the largest value, and whether they are floats."""
    low, high, is_float = math.inf, -math.inf, False
    for counts in _blocks(sums, 0, progress):
        low, high = min(low, float(counts.min())), max(high, float(counts.max()))
        is_float = is_float or counts.dtype.kind == "f"
    return low, high, is_float


def _pages(sums: Movie, dtype: np.dtype, progress: Callable[[int, int], None]) -> Iterator[np.ndarray]:
    for counts in _blocks(sums, sums.n_frames, progress):
        yield from counts.astype(dtype).reshape(-1, *counts.shape[-2:])


def _info(movie: Movie, which: Compression, offset: Estimate) -> str:
    """Say where the movie came from, and what its file said of the camera, one ``key = value`` a line."""
    kept = [f"{key} = {value}" for key, value in movie.tags.items() if not OF_ONE_FRAME.search(str(key)) and key not in OF_THE_FILE]
    lines = [line for line in kept if "\n" not in line and len(line) <= LONGEST_TAG and line.isascii()]
    lines += [f"offset = {offset.value:g}"] if offset.source == "given" else []
    return "\n".join(
        [
            f"Made by = denseloc compress, of {movie.name}".encode("ascii", "replace").decode(),
            f"Frames summed = {which.factor}, {which.apart} apart",
            f"Noise = read noise is {math.sqrt(which.factor):.3f} times that of a frame; the offset, {offset.value:g} counts, is in each sum once",
            *lines[-MOST_TAGS:],
        ]
    )


@contextmanager
def _camera_beside(path: Path | None, camera: CameraSettings | None) -> Iterator[None]:
    """Write a camera's document, which gets its name when all goes well with what is done meanwhile; without a camera do nothing."""
    if path is None or camera is None:
        yield
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(camera.model_dump(mode="json", exclude_none=True), indent=1), encoding="utf-8")
        yield
