"""The first Ctrl-C or SIGTERM asks for an orderly end, the second one ends at once; where nobody asks, SIGTERM clears up first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import Interrupted


class Abandoned(BaseException):
    """A second signal: nobody wants to wait. Not an Exception, so that nothing on the way takes it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def ended(number: int, what_is_left: str) -> Interrupted:
    """Make the error for a signal that came when all was done that it could have stopped."""
    from ..errors import Interrupted

    return Interrupted(f"stopped; {what_is_left}", 128 + number)


@contextmanager
def clearing_up() -> Iterator[None]:
    """Let SIGTERM unwind what is going on, so that temporary files are removed; without effect outside of the main thread."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Abandoned(number)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def orderly_stop(announce: Callable[[str], None], ending: str) -> Iterator[Callable[[], int]]:
    """Give a function that says which signal has come, 0 for none.

    Args:
        announce: told when the first one comes.
        ending: what is still finished after it, for the announcement.
    """
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if caught:
            raise Abandoned(number)
        caught.append(number)
        announce(f"stopping after {ending}; Ctrl-C again aborts at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: caught[0] if caught else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
