"""Progress: a bar on a terminal, a line now and then in a file or pipe, nothing when quiet."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.status import Status

from ..kernels.foretold import telling
from .words import console, note

LINE_EVERY_S = 30.0


class Screen:
    """What is seen while a long work goes on.

    Args:
        waiting: what is done before the first step, shown meanwhile.
        doing: what the steps do.
        quiet: show nothing.
    """

    def __init__(self, waiting: str, doing: str, quiet: bool = False) -> None:
        self.waiting, self.doing, self.quiet = waiting, doing, quiet
        self.console: Console = console()
        self.status: Status | None = None
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.said = time.monotonic()
        self.until_end = ExitStack()

    def __enter__(self) -> Screen:
        if not self.quiet:
            self.until_end.enter_context(telling(lambda text: note(text, stderr=True)))
        if not self.quiet and self.console.is_terminal:
            self.status = self.console.status(self.waiting)
            self.status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.until_end.close()
        self._end_waiting()
        if self.bar is not None:
            self.bar.stop()

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line above the bar."""
        if not self.quiet:
            self.console.print(text, style=style, markup=False)

    def show(self, table: RenderableType) -> None:
        """Print a table."""
        if not self.quiet:
            self.console.print(table)

    def step(self, done: int, total: int, words: str) -> None:
        """Show how far it is, and some words on how it goes."""
        self._end_waiting()
        if self.quiet:
            return
        if self.console.is_terminal:
            self._draw(done, total, words)
        elif time.monotonic() - self.said > LINE_EVERY_S:
            self.said = time.monotonic()
            self.say(f"{self.doing}: {100 * done / max(total, 1):.0f} %, {words}")

    def _end_waiting(self) -> None:
        if self.status is not None:
            self.status.stop()
            self.status = None

    def _draw(self, done: int, total: int, words: str) -> None:
        if self.bar is None:
            columns = (TextColumn(self.doing), BarColumn(bar_width=16), TaskProgressColumn(), TextColumn("{task.fields[words]}"))
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task(self.doing, total=total, words=words)
            self.bar.start()
        assert self.task is not None
        self.bar.update(self.task, completed=done, total=total, words=words)


class Rate:
    """Steps a second since the first step that this session took."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.at: int | None = None

    def start(self, done: int = 0) -> None:
        """Begin to count, with so many steps done before."""
        self.began, self.at = time.monotonic(), done

    def per_second(self, done: int) -> float:
        """Give the rate so far."""
        return (done - (self.at or 0)) / max(time.monotonic() - self.began, 1e-9)


def clock(seconds: float) -> str:
    """Write a time as 1:02:03 or 2:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
