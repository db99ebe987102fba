"""Words in and out: values of options, lines on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

MOST_SIDE_PX = 8192
"""Widest frame that is simulated."""
WIDE = 200
"""Columns of a file or pipe."""


def console() -> Console:
    """Give the terminal as it is now; long lines wrap between words there, and stay whole in files and pipes."""
    terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not terminal, width=None if terminal else WIDE)


def say(text: str, style: str | None = None) -> None:
    """Print a line."""
    console().print(text, style=style, markup=False)


def pairs(rows: Sequence[tuple[str, str]]) -> Table:
    """Lay out names and values side by side, values wrapped under each other."""
    table = Table.grid(padding=(0, 3))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def caution(text: str) -> None:
    """Print a warning."""
    say(f"warning: {text}", "yellow")


def note(text: str, stderr: bool = False) -> None:
    """Print a note, on stderr where it is no part of the result."""
    if stderr:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"note: {text}", markup=False)
    else:
        say(f"note: {text}")


def complain(message: str, code: int) -> int:
    """Print an error on stderr, in two lines at most, and give its exit code."""
    lines = [line for line in message.splitlines() if line.strip()] or ["failed"]
    lines = [lines[0], " ".join(line.strip() for line in lines[1:])] if len(lines) > 1 else lines
    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    stderr.print("denseloc: ", style="bold red", end="")
    stderr.print("\n".join(lines), markup=False)
    return code


def number(value: float) -> str:
    """Write a whole number with thousands apart."""
    return f"{value:,.0f}".replace(",", " ")


def per_second(value: float) -> str:
    """Write a rate: whole from 10 on, with two digits below."""
    return number(value) if value >= 9.95 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Write a time as people do: 8.2 s, 3 min 12 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def pixel_size(text: str | None) -> float | tuple[float, float] | None:
    """Read ``100`` or ``y,x``."""
    if text is None:
        return None
    values = _numbers(text, "--pixel-size-nm", (1, 2), "one number in nm, or y,x")
    return values[0] if len(values) == 1 else (values[0], values[1])


def pair(text: str | None, option: str, expected: str) -> tuple[float, float] | None:
    """Read ``a,b``."""
    if text is None:
        return None
    values = _numbers(text, option, (2,), expected)
    return values[0], values[1]


def frame_range(text: str | None) -> tuple[int | None, int | None] | None:
    """Read ``a:b``, ``a:`` or ``:b``."""
    if text is None:
        return None
    ends = text.split(":")
    try:
        if len(ends) != 2:
            raise ValueError
        start, stop = (int(end) if end.strip() else None for end in ends)
    except ValueError:
        raise _bad("--frames", text, "start:stop, such as 0:1000 or 500:") from None
    if (start or 0) < 0 or (stop is not None and stop < 0):
        raise _bad("--frames", text, "start:stop counted from 0")
    return start, stop


def region(text: str | None) -> tuple[int, int, int, int] | None:
    """Read ``y0,x0,height,width``."""
    if text is None:
        return None
    y0, x0, height, width = _whole(text.split(","), 4, "--roi", text, "y0,x0,height,width in whole pixels")
    return y0, x0, height, width


def size(text: str) -> tuple[int, int]:
    """Read ``64``, ``64x48`` or ``64,48`` (rows, columns)."""
    parts = text.lower().replace("x", ",").split(",")
    values = _whole(parts * 2 if len(parts) == 1 else parts, 2, "--size", text, "pixels: 64, or rows x columns as 64x48")
    if not all(1 <= value <= MOST_SIDE_PX for value in values):
        raise _bad("--size", text, f"1 to {MOST_SIDE_PX} pixels a side")
    return values[0], values[1]


def _numbers(text: str, option: str, counts: Sequence[int], expected: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(abs(value) < float("inf") for value in values):
        raise _bad(option, text, expected)
    return values


def _whole(parts: Sequence[str], count: int, option: str, text: str, expected: str) -> list[int]:
    try:
        values = [int(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != count:
        raise _bad(option, text, expected)
    return values


def _bad(option: str, text: str, expected: str) -> Any:
    return typer.BadParameter(f"found '{text}', expected {expected}", param_hint=option)


def in_colour(right: float | None) -> str:
    """Say the percentage of right colours behind other marks; nothing for one colour."""
    return "" if right is None else f", right colour {right:.0f} %"
