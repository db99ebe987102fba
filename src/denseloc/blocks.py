"""Blocks of a movie: read one ahead, with context on both sides, turned into photons, worked on, and kept in a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from .data import Block, Frames, Localizations, Movie
from .errors import MovieError
from .journal import Journal
from .localize import Localizer
from .preparation import MOST_LOOKED_OVER, Preparation

BLOCK_PX = Localizer.block_px  # pixels of a block of frames: some seconds of work, some tens of MB
MAX_BLOCK = 512

Work = Callable[[Frames, tuple[int, int]], tuple[Localizations, Mapping[str, np.ndarray] | None]]
"""What is done with the frames of a block, of which those from start to stop - 1 are asked for: rows, and arrays to be kept beside them."""


@dataclass(frozen=True)
class Progress:
    """How a run stands: frames done and in all, localizations so far, seconds of this session."""

    frames: int
    n_frames: int
    localizations: int
    seconds: float


def work_through(
    whole: Movie,
    part: Movie,
    ready: Preparation,
    device: torch.device,
    journal: Journal,
    work: Work,
    *,
    context: int,
    block_frames: int | None,
    block_px: int = BLOCK_PX,
    report: Callable[[Progress], None],
    stop: Callable[[], int],
) -> None:
    """Work on all blocks that the journal does not hold yet, and keep what comes of each.

    Args:
        whole: the movie, whose frames serve as context.
        part: its frames that are asked for.
        ready: turns counts into photons.
        device: on which photons are.
        journal: keeps the blocks.
        work: what is done with each.
        context: frames on both sides that the work looks at besides.
        block_frames: frames of a block; by the size of the field if None.
        block_px: pixels of a block then.
        report: told after each block how it goes.
        stop: asked after each block; a signal number ends the run.

    Raises:
        Interrupted: ``stop`` asked for it.
    """
    started = time.monotonic()
    n = frames_at_once(part, block_frames, block_px)
    first, last = part.frames
    found = journal.rows()
    for block in ahead(blocks_of(whole, part, n, context, journal.next_frame)):
        table, beside = work(frames_of(block, part, ready, device), (block.start, block.stop))
        journal.add(table, block.start, block.stop, beside)
        found += len(table)
        report(Progress(block.stop - first, part.n_frames, found, time.monotonic() - started))
        journal.heed(stop(), f"after frame {block.stop - 1} of {last - 1}")


def frames_at_once(part: Movie, block_frames: int | None, block_px: int = BLOCK_PX) -> int:
    """Give the frames of a block: as many as asked for, or by the size of the field."""
    return block_frames or max(8, min(MAX_BLOCK, block_px // max(1, part.n_planes * part.field_px[0] * part.field_px[1])))


def frames_of(block: Block, movie: Movie, ready: Preparation, device: torch.device) -> Frames:
    """Turn a block of counts into photons on the device; full pixels become NaN where the method can do without them."""
    counts = block.counts
    if not np.issubdtype(counts.dtype, np.floating) or counts.dtype.itemsize != 4:
        counts = counts.astype(np.float32)
    photons = ready.camera.to_photons(torch.from_numpy(np.ascontiguousarray(counts)).to(device))
    if ready.model.experiment.localizer.misses_pixels and np.isfinite(ready.measured.saturation_counts):
        photons[torch.from_numpy(counts >= ready.measured.saturation_counts).to(device)] = torch.nan
    background = None if ready.background is None else torch.from_numpy(ready.background).to(device)
    variance = ready.camera.noise_variance(movie.shape_px)
    return Frames(
        photons,
        ready.pixel_size_nm,
        variance=None if bool((variance == variance.flatten()[0]).all()) else variance,  # one number is among the conditions
        background=background,
        first_frame=block.first,
        origin_px=movie.origin_px,
    )


def blocks_of(whole: Movie, part: Movie, n: int, context: int, start: int) -> Iterator[Block]:
    """Walk over the frames of a part from ``start`` on, n at a time, with context frames on both sides, outside of the part as well.

    A frame outside of the part that cannot be read counts as missing.
    """
    for begin in range(start, part.frames[1], n):
        end = min(begin + n, part.frames[1])
        first, last = max(whole.frames[0], begin - context), min(whole.frames[1], end + context)
        try:
            counts = whole.read(first, last)
        except MovieError:
            if part.frames[0] <= first and last <= part.frames[1]:
                raise
            first, last = max(part.frames[0], first), min(part.frames[1], last)
            counts = whole.read(first, last)
        yield Block(counts, first, begin, end)


def all_over(whole: Movie, part: Movie, n: int) -> Iterator[Block]:
    """Give frames spread evenly over the movie, n at a time, always the same ones: all of them, or `MOST_LOOKED_OVER` of a longer movie.

    A frame outside of the part that cannot be read is left out.
    """
    first, last = whole.frames
    counts: list[np.ndarray] = []
    for i in map(int, np.unique(np.linspace(first, last - 1, min(MOST_LOOKED_OVER, last - first)).round())):
        try:
            counts.append(whole.read(i, i + 1))
        except MovieError:
            if part.frames[0] <= i < part.frames[1]:
                raise
        if len(counts) == n:
            yield Block(np.concatenate(counts), i, i, i + 1)
            counts = []
    if counts:
        yield Block(np.concatenate(counts), last - 1, last - 1, last)


def look_over(
    localizer: Localizer,
    whole: Movie,
    part: Movie,
    ready: Preparation,
    device: torch.device,
    n: int,
    tile_px: int,
    heed: Callable[[], None],
) -> None:
    """Show frames from all over a movie to a localizer that wants it: the same ones whatever part is localized and wherever a run goes on.

    Args:
        localizer: on the device, told the conditions.
        whole: the movie.
        part: frames that are to be localized.
        ready: camera and background.
        device: where to compute.
        n: frames at once; does not change the result.
        tile_px: largest tile that is computed at once; does not change the result.
        heed: called for each n frames; ends the run if it must.
    """
    if not localizer.sees_all_frames:
        return

    def seen() -> Iterator[Frames]:
        for block in ahead(all_over(whole, part, n)):
            heed()
            yield frames_of(block, part, ready, device)

    localizer.look_over(seen(), tile_px)


@contextmanager
def forgetting(localizer: Localizer) -> Iterator[None]:
    """Let a localizer forget the movie at the end, however that comes."""
    try:
        yield
    finally:
        localizer.forget()


def ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Read the next block while the present one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block
