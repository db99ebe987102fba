"""Ctrl-C, SIGTERM and SIGKILL in the middle: finished blocks are kept, and the resumed table is the same, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import tifffile
from safetensors.torch import load_file

from denseloc.cli.design import Lessons
from denseloc.cli.signals import Abandoned, orderly_stop

PATIENCE_S = 120


def test_first_signal_asks_and_the_second_ends():
    told = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Abandoned) as caught, orderly_stop(told.append, "the present block") as stop:  # noqa: PT012
        assert stop() == 0
        signal.raise_signal(signal.SIGINT)
        assert stop() == signal.SIGINT
        assert told == ["stopping after the present block; Ctrl-C again aborts at once"]
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def interrupt(arguments, journal, number):
    """Start the command, send a signal when the journal has grown by a block, and give exit code and stderr."""
    already = len(list(journal.glob("[0-9]*.parquet")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    code = "import sys, torch; torch.set_num_threads(1); from denseloc.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    deadline = time.monotonic() + PATIENCE_S
    while len(list(journal.glob("[0-9]*.parquet"))) <= already + 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, err.decode()


def test_killed_interrupted_terminated_and_resumed(command, place, tmp_path):
    pixels = tifffile.imread(place.movie)
    movie = tmp_path / "long.tif"
    tifffile.imwrite(movie, pixels[[i % len(pixels) for i in range(600)]], photometric="minisblack")
    arguments = ["localize", str(movie), "--model", str(place.model), "--block-frames", "4", "--no-picture", "--no-report"]
    whole, parted = tmp_path / "whole.parquet", tmp_path / "parted.parquet"
    journal = tmp_path / "parted.parquet.parts"
    done = 0
    for number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        code, err = interrupt([*arguments, "-o", str(parted), "--resume"], journal, number)
        assert code == expected, err
        assert not parted.exists()
        kept = len(list(journal.glob("[0-9]*.parquet")))
        assert kept > done
        done = kept
        if code > 0:
            assert len(err.splitlines()) == 1
            assert "--resume" in err
            assert "Traceback" not in err
    assert done < 600 // 4, "the run was over before it was interrupted"
    assert command(*arguments, "-o", parted, "--resume").code == 0
    assert not journal.exists()
    assert command(*arguments[:-4], "--block-frames", 512, *arguments[-2:], "-o", whole).code == 0
    assert parted.read_bytes() == whole.read_bytes()


def test_interrupted_training_goes_on_from_its_checkpoint(command, place, tmp_path, monkeypatch):
    model = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Lessons, "report", lambda self, progress: signal.raise_signal(signal.SIGINT))
        answer = command("train", place.document, "-o", model)
    assert answer.code == 130
    assert "step 50 of 80" in answer.err
    assert "--resume" in answer.err
    assert not model.exists()
    assert (tmp_path / "model.checkpoint").exists()
    answer = command("train", place.document, "-o", model, "--resume")
    assert answer.code == 0
    assert "80 steps" in answer.out
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors"}
    resumed, uninterrupted = load_file(model), load_file(place.model)
    for name, weight in uninterrupted.items():
        assert weight.equal(resumed[name]), name
