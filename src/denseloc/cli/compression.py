"""The command that makes a denser movie of the same sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from . import options
from .screen import Rate, Screen
from .words import caution, frame_range, number, per_second, pixel_size, region, say

if TYPE_CHECKING:
    from ..verbs import Compressed

DenserOut = Annotated[Path, Option("--out", "-o", metavar="MOVIE", help="Movie to write, .tif.", show_default=False)]
Factor = Annotated[
    int, Option(metavar="N", help="Frames in a sum: the new movie is so many times denser and shorter.", show_default=False)
]
Apart = Annotated[int, Option(metavar="N", help="Frames between those of a sum; more than a molecule stays on.")]
Offset = Annotated[
    float | None,
    Option(metavar="COUNTS", help="Counts of a dark pixel, where no --camera is given.", show_default="measured in the movie"),
]
UsedFrames = Annotated[str | None, Option(metavar="A:B", help="Only frames A .. B-1, counted from 0.", show_default=False)]
OldTruth = Annotated[
    Path | None, Option(metavar="TABLE", help="Truth of the movie; that of the new one is written beside it.", show_default=False)
]

COMPRESS_EXAMPLES = (
    "denseloc compress movie.tif -o dense.tif --factor 6",
    "denseloc compress movie.tif -o dense.tif --factor 12 --camera camera.toml",
    "denseloc compress movie.tif -o dense.tif --factor 4 --apart 50 --offset 100 --truth truth.parquet",
)


def compress(
    movie: options.Movie,
    out: DenserOut,
    factor: Factor,
    apart: Apart = 300,
    camera: options.Camera = None,
    offset: Offset = None,
    truth: OldTruth = None,
    frames: UsedFrames = None,
    roi: options.Roi = None,
    planes: options.Planes = None,
    pixel_size_nm: options.PixelSize = None,
    quiet: options.Quiet = False,
) -> None:
    """Sum frames that lie far apart: a denser movie of the same sample, to see what a method makes of it.

    The camera's offset stays in each sum once, so that camera offset and gain hold for the new movie; its read noise adds up.
    """
    with Screen("looking at the movie", "summing", quiet) as screen:
        from .. import verbs
        from ..preparation import read_camera

        rate = Rate()

        def progress(done: int, n: int) -> None:
            screen.step(done, n, f"{per_second(rate.per_second(done))} frames/s")

        made = verbs.compress(
            movie,
            out,
            factor=factor,
            apart=apart,
            camera=None if camera is None else read_camera(camera),
            offset_counts=offset,
            planes=planes,
            frames=frame_range(frames),
            roi_px=region(roi),
            pixel_size_nm=pixel_size(pixel_size_nm),
            truth=truth,
            progress=progress,
        )
    if not quiet:
        _told(made, factor)


def _told(made: Compressed, factor: int) -> None:
    """Say what was written and what holds for it."""
    left = f", {number(made.left_out)} frames at the end left out" if made.left_out else ""
    wide = "; the sums do not fit into 16 bits, so that it holds 32-bit floats" if made.is_wide else ""
    say(f"movie    {made.movie}   {number(made.n_frames)} frames, sums of {factor}{left}{wide}")
    say(f"offset   {made.offset_counts}, in each sum once; read noise is {made.read_noise_factor:.2f} times that of one frame")
    if made.offset_counts.source == "assumed":
        caution(
            "this movie does not show its camera's offset; give it (--offset or --camera), or photons of the new movie are too few or too many"
        )
    if made.camera is not None:
        say(f"camera   {made.camera}   for the new movie")
    if made.truth is not None:
        say(f"truth    {made.truth}")
