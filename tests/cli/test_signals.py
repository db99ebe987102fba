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

from denseloc import journal, pipeline
from denseloc.cli.analysis import Watch
from denseloc.cli.design import Lessons
from denseloc.cli.signals import Abandoned, orderly_stop
from denseloc.files import alone, replacing
from denseloc.formats import read_table

PATIENCE_S = 120
FRAMES = 360  # of the movie whose localization is interrupted three times


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
    tifffile.imwrite(movie, pixels[[i % len(pixels) for i in range(FRAMES)]], photometric="minisblack")
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
    assert done < FRAMES // 4, "the run was over before it was interrupted"
    assert command(*arguments, "-o", parted, "--resume").code == 0
    assert not journal.exists()
    assert command(*arguments[:-4], "--block-frames", 512, *arguments[-2:], "-o", whole).code == 0
    assert parted.read_bytes() == whole.read_bytes()


@pytest.fixture
def run(command, place, tmp_path):
    """Localize the small movie in blocks of 8 frames."""
    out = tmp_path / "t.parquet"
    blocks = ("--model", place.model, "--block-frames", 8)
    return lambda *more: command("localize", place.movie, "-o", out, *blocks, *more)


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """The table of a run that nobody has interrupted."""
    out = tmp_path_factory.mktemp("whole") / "whole.parquet"
    pipeline.localize(place.movie, out, model=place.model)
    return out.read_bytes()


def check_resumed(run, whole, tmp_path):
    """Go on, and compare with a run that nobody has interrupted."""
    kept = tmp_path / "t.parquet.parts"
    assert len(list(kept.glob("[0-9]*.parquet"))) == 5
    assert not (tmp_path / "t.parquet").exists()
    assert run("--resume", "--no-picture", "--no-report").code == 0
    assert (tmp_path / "t.parquet").read_bytes() == whole
    assert not kept.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_last_block_is_answered(run, whole, tmp_path, monkeypatch, number, code):
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "report", lambda self, progress: progress.frames == 40 and signal.raise_signal(number))
        answer = run()
    assert answer.code == code
    assert len(answer.err.splitlines()) == 1
    assert "--resume" in answer.err
    check_resumed(run, whole, tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_parts_are_joined_is_answered(run, whole, tmp_path, monkeypatch, number, code):
    def read(path):
        if path.name.startswith("0000000032"):  # the last part
            signal.raise_signal(number)
        return read_table(path)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "read_table", read)
        answer = run()
    assert answer.code == code
    assert "stopped before the table was written" in answer.err
    check_resumed(run, whole, tmp_path)


def test_a_signal_after_the_table_leaves_it_whole_and_is_answered(run, tmp_path, monkeypatch):
    remove = journal.Journal.remove

    def removing(self):
        signal.raise_signal(signal.SIGTERM)
        remove(self)

    monkeypatch.setattr(journal.Journal, "remove", removing)
    answer = run()
    assert answer.code == 143
    assert "t.parquet is whole; picture and report were not made" in answer.err
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet"}
    assert len(read_table(tmp_path / "t.parquet"))


def test_sigterm_while_the_picture_is_drawn_clears_up(run, tmp_path, monkeypatch):
    def drawing(image, path, **_):
        with replacing(path) as temporary:
            temporary.write_bytes(b"half a picture")
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("denseloc.verbs.picture.save_png", drawing)
    before = signal.getsignal(signal.SIGTERM)
    answer = run()
    assert answer.code == 143
    assert "aborted" in answer.err
    assert signal.getsignal(signal.SIGTERM) == before
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet"}


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


def test_resume_leaves_a_finished_training_as_it_is(command, place, tmp_path, monkeypatch):
    """A script that always says --resume must not train again for hours, and over the model."""
    model = tmp_path / "model.safetensors"
    model.write_bytes(place.model.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("denseloc.training.Trainer", lambda *_: pytest.fail("it trains"))
        answer = command("train", place.document, "-o", model, "--resume")
    assert answer.code == 0, answer
    assert "there is no model.checkpoint to go on from; a finished model of this document is left as it is" in answer.out
    assert "80 steps" in answer.out
    assert model.read_bytes() == place.model.read_bytes()
    document = tmp_path / "other.toml"
    document.write_text(place.document.read_text().replace("steps = 80", "steps = 2"))
    answer = command("train", document, "-o", model, "--resume")
    assert "2 steps" in answer.out
    assert command("train", document, "-o", tmp_path / "new.safetensors", "--resume").code == 0


def test_two_trainings_do_not_share_a_model_file(command, place, tmp_path):
    model = tmp_path / "model.safetensors"
    (tmp_path / "model.checkpoint").write_text("of the other run")
    for more in ((), ("--resume",)):
        with alone(model):
            answer = command("train", place.document, "-o", model, *more)
        assert answer.code == 2
        assert "is being written by another run" in answer.err
