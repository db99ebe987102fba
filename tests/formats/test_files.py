"""Whole or untouched: temporary names, renaming, and errors in one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
from safetensors import SafetensorError

from denseloc.errors import OutputError
from denseloc.files import check_writable, replacing


def write_and_fail(target, error):
    with replacing(target) as part:
        part.write_text("half")
        raise error


def test_success_replaces_the_target_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as part:
        assert part.parent == tmp_path
        assert part.suffix == ".txt"
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_failure_keeps_the_old_target_and_removes_the_part(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyError):
        write_and_fail(target, KeyError("boom"))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_interruption_removes_the_part(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(tmp_path / "a.txt", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("Unable to write (errno = 28, error message = 'No space left on device')"),
    ],
)
def test_full_disk_is_said_in_one_line(tmp_path, error):
    with pytest.raises(OutputError, match="disk is full, nothing was written") as caught:
        write_and_fail(tmp_path / "a.txt", error)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_errors_about_other_files_pass(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        (tmp_path / "not there.tif").read_bytes()


def test_missing_folder(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "none" / "a.txt")


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, expected a folder"):
        check_writable(tmp_path / "file" / "a.txt")


def test_target_that_is_a_folder_or_device(tmp_path):
    with pytest.raises(OutputError, match="this is a folder"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match="this is a device"):
        check_writable("/dev/null")


def test_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    with pytest.raises(OutputError, match="may not be written to"):
        check_writable(tmp_path / "a.txt")


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "a.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as part:
        part.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_ordinary_permissions(tmp_path):
    with replacing(tmp_path / "a.txt") as part:
        part.write_text("x")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


WRITER = """
import signal, sys, time
from denseloc.files import replacing
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without
with replacing(sys.argv[1]) as outer, replacing(sys.argv[1] + ".notes") as inner:
    outer.write_text("half")
    inner.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(tmp_path, number):
    (tmp_path / "a.txt").write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    assert len(list(tmp_path.iterdir())) == 3
    process.send_signal(number)
    code = process.wait(timeout=60)
    process.stdout.close()
    assert code in (128 + number, -number)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def ended_by(target, *numbers):
    with replacing(target) as part:
        part.write_text("half")
        assert all(signal.getsignal(number) is not signal.SIG_DFL for number in numbers)  # it would end the tests
        try:
            for number in numbers:
                signal.raise_signal(number)
        except SystemExit:
            signal.raise_signal(signal.SIGTERM)  # a second one, which must not break into the clearing away
            raise


def test_signals_end_in_order_while_something_is_written_and_not_after(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert before == [signal.SIG_DFL, signal.SIG_DFL]
    with pytest.raises(SystemExit) as caught:
        ended_by(tmp_path / "a.txt", signal.SIGTERM)
    assert caught.value.code == 143
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
    assert list(tmp_path.iterdir()) == []


def test_handlers_of_others_stay_in_force(tmp_path):
    told = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        ended_by(tmp_path / "a.txt", signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]
    assert (tmp_path / "a.txt").read_text() == "half"


def test_writing_in_another_thread(tmp_path):
    thread = threading.Thread(target=ended_by, args=(tmp_path / "a.txt",))
    thread.start()
    thread.join()
    assert (tmp_path / "a.txt").read_text() == "half"
