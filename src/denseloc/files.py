"""Files: written to a temporary name beside the target and then renamed, so that a target is whole or untouched."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from safetensors import SafetensorError

from .errors import OutputError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a program at once unless it has said otherwise, and would leave what it was writing."""


def check_writable(path: Path | str) -> Path:
    """Check, before long work, that ``path`` can be written; give it as a Path with links followed.

    Raises:
        OutputError: the folder is missing or may not be written to, or the target is not an ordinary file.
    """
    target = Path(os.path.realpath(path))
    folder = target.parent
    if not folder.exists():
        raise OutputError(f"{path}: the folder {folder} does not exist; make it or choose another")
    if not folder.is_dir():
        raise OutputError(f"{path}: {folder} is a file, expected a folder; choose another place")
    if target.exists() and not target.is_file():
        found = "a folder" if target.is_dir() else "a device"
        raise OutputError(f"{path}: this is {found}, expected the name of a file to write; choose another name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} may not be written to; change its permissions or choose another")
    return target


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; rename it to ``path`` on success, remove it on failure.

    The temporary name keeps the suffix of ``path``. An OSError of the writing becomes one line. A signal that would end the program
    at once (SIGTERM, SIGHUP) ends it by SystemExit instead, so that nothing is left behind; handlers of others stay in force.

    Raises:
        OutputError: the target cannot be written, or the disk is full; nothing was written then.
        SystemExit: with 128 + the signal's number.
    """
    target = check_writable(path)
    part = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}{target.suffix}")
    with _ending_in_order():
        try:
            yield part
            part.chmod(_mode(target))  # some writers make private files
            os.replace(part, target)
        except OSError as error:
            if isinstance(error.filename, str) and Path(os.path.realpath(error.filename)) not in (part, target):
                raise  # about another file, such as one that is being read
            raise OutputError(f"{path}: {_reason(error)}") from error
        except SafetensorError as error:  # what its writer makes of an OSError
            raise OutputError(f"{path}: {_reason(OSError(str(error)))}") from error
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Turn the signals of `_ENDING` that have no handler into SystemExit; only the main thread of a program can."""
    mine = threading.current_thread() is threading.main_thread()
    unhandled = [number for number in _ENDING if mine and signal.getsignal(number) is signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    for other in _ENDING:  # a second one must not break into the clearing away
        if signal.getsignal(other) is _end:
            signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def alone(path: Path | str) -> Iterator[None]:
    """Hold a lock on a target while it is being made, so that two runs do not mix; without effect where the system has no such locks.

    Raises:
        OutputError: another run holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    try:
        handle = lock.open("w")
    except OSError as error:
        raise OutputError(f"{path}: {_reason(error)}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{path} is being written by another run; wait for it, or choose another name") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _mode(target: Path) -> int:
    """Give the permissions that the target has, or that a new file would have."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _reason(error: OSError) -> str:
    text = str(error)
    short = error.errno is None and "requested and" in text  # how numpy says that only a part could be written
    if short or error.errno in _NO_SPACE or "No space left" in text or f"errno = {errno.ENOSPC}," in text:
        return "the disk is full, nothing was written; free some space or choose another folder"
    return f"cannot be written ({error.strerror or text.splitlines()[0]}), nothing was written; choose another place"
