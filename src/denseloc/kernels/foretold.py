"""A word before code is compiled at its first use, for whoever sits before a screen on which nothing moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_say: ContextVar[Callable[[str], None] | None] = ContextVar("say", default=None)


@contextmanager
def telling(say: Callable[[str], None]) -> Iterator[None]:
    """Have ``say`` told, in this thread and until the end, what is about to be compiled; without this nobody is."""
    before = _say.set(say)
    try:
        yield
    finally:
        _say.reset(before)


def foretell(function: Any, what: str) -> None:
    """Say that a function of numba's will be compiled when it is called now; nothing where that was done before."""
    say = _say.get()
    if say is not None and not is_kept(function):
        say(f"compiling {what} for this computer, once; it takes about half a minute")


def is_kept(function: Any) -> bool:
    """Whether a function of numba's is compiled in this process or, since its file was last changed, on disk."""
    if not hasattr(function, "stats") or function.signatures:  # plain where numba is switched off
        return True
    source, folder = Path(function.py_func.__code__.co_filename), Path(function.stats.cache_path)
    indices = folder.glob(f"{source.stem}.{function.py_func.__name__}-*.nbi")
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in indices)
