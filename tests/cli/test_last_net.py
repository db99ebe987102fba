"""Whatever goes wrong is a line, not a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from denseloc.cli import main
from denseloc.errors import CameraError, OutputError
from denseloc.files import alone
from denseloc.preparation import parse_camera


def test_an_unexpected_error_is_two_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AttributeError("some inner thing")

    monkeypatch.setattr("denseloc.formats.open_movie", fails)
    monkeypatch.setattr("denseloc.pipeline.open_movie", fails)
    np.save(tmp_path / "a.npy", np.zeros((2, 16, 16), np.uint16))
    assert main(["localize", str(tmp_path / "a.npy"), "-o", str(tmp_path / "t.parquet"), "--pixel-size-nm", "100"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "AttributeError: some inner thing" in lines[0]


def test_a_pipe_is_no_movie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "f.tif")
    assert main(["localize", str(tmp_path / "f.tif"), "-o", str(tmp_path / "t.parquet")]) == 2
    assert "neither a file nor a folder" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["kind=various", "kind=scmos,em_gain=300,offset=1,electrons_per_count=1", "offset=1,offset=2"])
def test_contradictory_cameras(text: str) -> None:
    with pytest.raises(CameraError):
        parse_camera(text)


def test_two_runs_do_not_write_one_table(tmp_path: Path) -> None:
    with alone(tmp_path / "t.parquet"), pytest.raises(OutputError, match="another run"), alone(tmp_path / "t.parquet"):
        pass
    with alone(tmp_path / "t.parquet"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_deep_documents_and_backward_ranges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_document: dict[str, object]
) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert main(["train", str(tmp_path / "deep.json"), "-o", str(tmp_path / "m.safetensors")]) == 2
    document = {**tiny_document, "training": {"psf_scale": [2, 1]}}
    (tmp_path / "e.json").write_text(json.dumps(document))
    assert main(["train", str(tmp_path / "e.json"), "-o", str(tmp_path / "m.safetensors")]) == 2
    assert "low to high" in capsys.readouterr().err
