"""Simulate a movie and its truth from a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..camera import Various
from ..data import CONVENTIONS, Emitters, Localizations, Provenance
from ..errors import DocumentError, OutputError
from ..experiment import Experiment
from ..files import check_writable, replacing
from ..formats import check_table, table_suffixes, write_table
from ..microscope import Microscope
from .movie_writing import write_tiff

BLOCK_PX = 1 << 21
LEAST_PX = 8


@dataclass(frozen=True)
class Simulation:
    """What a simulation left behind.

    Args:
        movie: 16-bit TIFF.
        truth: table of the emitters whose centres lie in the frame.
        n_frames: frames of the movie.
        emitters: rows of the truth.
    """

    movie: Path
    truth: Path
    n_frames: int
    emitters: int


def simulate(
    experiment: Experiment | Path | str,
    out: Path | str,
    *,
    n_frames: int,
    shape_px: tuple[int, int],
    seed: int = 0,
    truth: Path | str | None = None,
    progress: Callable[[int, int], None] = lambda done, n: None,
) -> Simulation:
    """Simulate a movie and write it with its truth.

    All emitters are drawn at once, so that molecules blink over the whole movie; frames are formed and written block by block.

    Args:
        experiment: the document, or its file.
        out: movie to write, ending in .tif; counts in 16 bit, the pixel size inside, axes (frame, [plane,] y, x).
        n_frames: number of frames.
        shape_px: (rows, columns).
        seed: equal seeds give equal movies.
        truth: table to write; None writes ``movie.truth.parquet`` beside ``movie.tif``.
        progress: told frames done and frames in all.

    Raises:
        DocumentError: the document has a mistake, or names no single camera.
        OutputError: a file cannot be written; nothing is left behind then.
    """
    document = experiment if isinstance(experiment, Experiment) else Experiment.from_file(experiment)
    out = Path(out)
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"movie {out.name}: expected a name that ends in .tif")
    if n_frames < 1 or min(shape_px) < LEAST_PX:
        size = f"{n_frames} frames of {shape_px[0]} x {shape_px[1]} px"
        raise DocumentError(f"{size} asked for; expected at least 1 frame of {LEAST_PX} x {LEAST_PX} px")
    table = out.with_suffix(".truth.parquet") if truth is None else Path(truth)
    if table.suffix.lower() not in table_suffixes():
        raise OutputError(f"truth {table.name}: the suffix names no table format; known: {', '.join(table_suffixes())}")
    known = _provenance(document, out, n_frames, shape_px, seed)
    check_table(table, known)
    check_writable(out)
    microscope = _microscope(document, shape_px)
    generator = torch.Generator().manual_seed(seed)
    specimen = document.build_specimen(shape_px)
    emitters = specimen.draw(n_frames, generator)
    background = specimen.draw_background(1, generator)
    rows = _truth(emitters, document.grid(shape_px).size_nm, known, document.psf.channels > 1)
    with replacing(out) as temporary:
        frames = _frames(microscope, emitters, background, n_frames, generator, progress)
        info = f"simulated by denseloc; {document.name}; {CONVENTIONS['origin']}"
        write_tiff(temporary, frames, (n_frames, microscope.psf.planes, *shape_px), np.uint16, document.pixel_size_nm, info)
        write_table(table, rows)
    return Simulation(out, table, n_frames, len(rows))


def _microscope(document: Experiment, shape_px: tuple[int, int]) -> Microscope:
    microscope = document.build_microscope(shape_px)
    if isinstance(microscope.camera, Various):
        raise DocumentError(
            "a camera of kind 'various' stands for many cameras; name one to simulate a movie: scmos, emccd or ideal"
        )
    microscope.camera = microscope.camera.crop(0, 0, *shape_px)
    return microscope


@torch.no_grad()
def _frames(
    microscope: Microscope,
    emitters: Emitters,
    background: torch.Tensor,
    n_frames: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None],
) -> Iterator[np.ndarray]:
    """Give the pages of the movie one after the other, (rows, columns) uint16."""
    planes, (rows, columns) = microscope.psf.planes, microscope.grid.shape_px
    n = max(1, BLOCK_PX // (planes * rows * columns))
    for start in range(0, n_frames, n):
        stop = min(start + n, n_frames)
        first, last = torch.searchsorted(emitters.frame, torch.tensor([start, stop])).tolist()
        block = emitters.select(slice(first, last))  # type: ignore[arg-type]
        shifted = Emitters(block.frame - start, *(getattr(block, name) for name in _REST))
        counts = microscope.sample(shifted, background.expand(stop - start, -1, -1, -1), generator)
        yield from counts.round_().clamp_(0, 65535).numpy().astype(np.uint16).reshape(-1, rows, columns)
        progress(stop, n_frames)


_REST = ("molecule", "x_nm", "y_nm", "z_nm", "photons", "channel")


def _provenance(document: Experiment, out: Path, n_frames: int, shape_px: tuple[int, int], seed: int) -> Provenance:
    return Provenance(
        pixel_size_nm=document.pixel_size_nm,
        shape_px=shape_px,
        n_frames=n_frames,
        movie=out.name,
        method="simulation",
        experiment=document.to_json(),
        settings={"seed": seed},
    )


def _truth(emitters: Emitters, size_nm: tuple[float, float], provenance: Provenance, colours: bool) -> Localizations:
    """Give the emitters whose centres lie in the frame as a table, with their channels where there are several."""
    height, width = size_nm
    e = emitters.select((emitters.x_nm >= 0) & (emitters.x_nm < width) & (emitters.y_nm >= 0) & (emitters.y_nm < height))
    names = ("frame", "molecule", "x_nm", "y_nm", "z_nm", "photons", *(("channel",) if colours else ()))
    columns = {name: getattr(e, name).numpy() for name in names}
    return Localizations(columns, provenance)
