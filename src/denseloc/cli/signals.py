"""The first Ctrl-C or SIGTERM asks for an orderly end, the second one ends at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Abandoned(BaseException):
    """A second signal: nobody wants to wait. Not an Exception, so that nothing on the way takes it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


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
