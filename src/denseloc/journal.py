"""Finished blocks on disk: a folder beside the table (``TABLE.parts``) with one small table per finished block.

It is joined into the table at the end and removed. Memory does not grow with the movie; the table is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from .data import Localizations, Movie, Provenance
from .errors import DenselocError, Interrupted, OutputError
from .files import alone, replacing
from .formats import iter_table, read_table, write_table

BLOCK_NAME = re.compile(r"\d{10}-\d{10}-\d+")  # start, stop, rows

RESCALED = "offset_rescaling"
"""Setting of a table whose sub-pixel positions were to be spread: known when all blocks are there."""


def _mark(provenance: Provenance) -> str:
    """Tell runs apart by what they do to which movie."""
    told = (
        "assumed",
        "warnings",
        "suitability",
        RESCALED,
    )  # words about numbers in the other settings, and what is done to joined blocks
    settings = {key: value for key, value in provenance.settings.items() if key not in told}
    run = asdict(replace(provenance, settings=settings))
    return hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()


def finished(out: Path, provenance: Provenance, rescaled: bool = False) -> int | None:
    """Count the rows of a table that a run of the same provenance has finished; None if there is no such table, or it does not say so.

    Args:
        out: the table.
        provenance: of the run, before anything was rescaled.
        rescaled: whether the run spreads sub-pixel positions.
    """
    if not out.exists():
        return None
    try:
        parts = iter_table(out)
        first = next(parts, None)
        if first is None or _mark(first.provenance) != _mark(provenance) or (RESCALED in first.provenance.settings) != rescaled:
            return None
        return len(first) + sum(len(part) for part in parts)
    except DenselocError:
        return None


def _run_of(note: Path) -> str | None:
    """Read which run a journal belongs to; None if the note is damaged."""
    try:
        return str(json.loads(note.read_text())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_readable(path: Path) -> bool:
    try:
        read_table(path)
    except DenselocError:
        return False
    return True


class Journal:
    """Finished blocks on disk.

    Args:
        out: the table.
        provenance: tells runs apart.
        movie: whose frames are worked on.
        resume: go on with the blocks of an interrupted run.

    Raises:
        OutputError: the folder is in the way, cannot be made, or belongs to another run.
    """

    def __init__(self, out: Path, provenance: Provenance, movie: Movie, resume: bool) -> None:
        self.folder = out.with_name(out.name + ".parts")
        mark = _mark(provenance)
        note = self.folder / "run.json"
        if self.folder.exists() and not note.exists():
            raise OutputError(
                f"{self.folder} is in the way and was not made by this program; move it or choose another name for the table"
            )
        if resume and note.exists():
            if _run_of(note) != mark:
                raise OutputError(
                    f"{self.folder} was left by a run with another movie, model or setting; leave out resume (--resume) to begin anew"
                )
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            try:
                self.folder.mkdir()
            except OSError as error:
                raise OutputError(f"{self.folder}: cannot be made ({error.strerror}); choose another place") from None
            try:
                with replacing(note) as temporary:
                    temporary.write_text(json.dumps({"run": mark}))
            except OutputError:
                self.remove()
                raise
        self.next_frame = self._keep_whole(*movie.frames)

    def _keep_whole(self, first: int, last: int) -> int:
        """Keep the blocks that follow one another from the first frame on and can be read; gives the next frame to localize."""
        files = self._files()
        for i, path in enumerate(files):
            start, stop = self._span(path)
            if start != first or stop > last or not _is_readable(path):
                for lost in files[i:]:
                    lost.unlink()
                break
            first = stop
        return first

    def forget_from(self, frame: int) -> None:
        """Forget the finished blocks from that one on which begins with this frame; earlier ones stay."""
        for path in reversed(self._files()):
            if self._span(path)[0] >= frame:
                path.unlink()
                self.next_frame = self._span(path)[0]

    @classmethod
    @contextmanager
    def of(cls, out: Path, provenance: Provenance, movie: Movie, resume: bool) -> Iterator[Journal]:
        """Keep a journal while no other run makes the same table, and remove it at the end if all went well."""
        with alone(out):
            journal = cls(out, provenance, movie, resume)
            with journal._kept():
                yield journal
            journal.remove()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Whatever ends the run: leave no empty journal behind, and say of one with finished blocks that it can be used."""
        try:
            yield
        except BaseException as error:
            if not self._files():
                self.remove()
            elif isinstance(error, DenselocError) and not isinstance(error, Interrupted):
                hint = f"finished blocks are kept in {self.folder.name}; the same call with resume (--resume) goes on from there"
                raise type(error)(f"{error}\n{hint}") from error
            raise

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if BLOCK_NAME.fullmatch(path.stem))

    @staticmethod
    def _span(path: Path) -> tuple[int, int]:
        start, stop, *_ = path.stem.split("-")
        return int(start), int(stop)

    def spans(self) -> list[tuple[int, int]]:
        """Give the frames (start, stop) of the finished blocks."""
        return [self._span(path) for path in self._files()]

    def rows(self) -> int:
        """Count the rows of the finished blocks."""
        return sum(int(path.stem.split("-")[2]) for path in self._files())

    def add(self, table: Localizations, start: int, stop: int, beside: Mapping[str, np.ndarray] | None = None) -> None:
        """Keep the table of frames start .. stop - 1, and arrays that belong to its rows."""
        path = self.folder / f"{start:010d}-{stop:010d}-{len(table)}.parquet"
        if beside is not None:
            with replacing(path.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
                np.savez(file, **beside)  # type: ignore[arg-type]  # mypy takes them for its own option
        write_table(path, table)

    def parts(self, stop: Callable[[], int]) -> Iterator[Localizations]:
        """Read the finished blocks, one after the other."""
        for table, _ in self.parts_beside(stop, beside=False):
            yield table

    def parts_beside(self, stop: Callable[[], int], beside: bool = True) -> Iterator[tuple[Localizations, dict[str, np.ndarray]]]:
        """Read the finished blocks with the arrays beside them."""
        for path in self._files():
            self.heed(stop(), "before the table was written")
            yield read_table(path), self._beside(path) if beside else {}
        self.heed(stop(), "before the table was written")

    @staticmethod
    def _beside(path: Path) -> dict[str, np.ndarray]:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            return dict(arrays)

    def heed(self, signal: int, where: str) -> None:
        """End the run if a signal has come."""
        if signal:
            hint = f"finished blocks are in {self.folder.name}, the same command with --resume goes on"
            raise Interrupted(f"stopped {where}; {hint}", 128 + signal)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
