"""A model with global context looks over the movie first: the table depends on no block, part or interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denseloc import blocks, pipeline, preparation
from denseloc.data import Movie, movie_from_array
from denseloc.errors import Interrupted, MovieError
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.model_file import Model, load_model, save_model
from denseloc.pipeline import Run, localize


@pytest.fixture
def model(tiny_document: dict[str, Any]) -> Model:
    """A model that finds something everywhere."""
    changes = {"localizer": {"kind": "decode", "preset": "tiny", "context": "both"}}
    document = Experiment.from_json({**tiny_document, **changes})
    localizer = document.build_localizer()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in localizer.parameters():
            weight.add_(0.06 * torch.randn(weight.shape, generator=generator))
        localizer.net.leave.bias[:4] += 5.0  # type: ignore[union-attr, operator, index]
    return Model(localizer.eval(), document, {}, "both")


@pytest.fixture(autouse=True)
def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the conditions of equal movies once, which takes most of the time of these tests."""
    known: dict[int, preparation.Preparation] = {}
    original = pipeline.prepare

    def prepare(movie: Movie, *more: Any) -> preparation.Preparation:
        if movie.n_frames not in known:
            known[movie.n_frames] = original(movie, *more)
        return known[movie.n_frames]

    monkeypatch.setattr(pipeline, "prepare", prepare)


def movie(n: int = 30) -> Movie:
    counts = np.random.default_rng(0).poisson(120, (n, 24, 20)).astype(np.uint16)
    counts[:, 8:12, 6] += 200
    return movie_from_array(counts, pixel_size_nm=(100.0, 100.0))


def rows(run: Run) -> dict[str, np.ndarray]:
    return dict(read_table(run.table).columns)


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_blocks_parts_and_interruptions_do_not_matter(model: Model, tmp_path: Path) -> None:
    whole = localize(movie(), tmp_path / "a.parquet", model=model, device="cpu")
    expected = rows(whole)
    assert len(expected["frame"]) > 100
    assert "global context: mean over 30 of 30 frames" in whole.assumed
    assert model.localizer.overview is None
    assert_equal(rows(localize(movie(), tmp_path / "b.parquet", model=model, device="cpu", block_frames=7)), expected)

    part = rows(localize(movie(), tmp_path / "c.parquet", model=model, device="cpu", frames=(11, 17)))
    chosen = (expected["frame"] >= 11) & (expected["frame"] < 17)
    assert_equal(part, {name: values[chosen] for name, values in expected.items()})

    asked = [0]

    def stop() -> int:
        asked[0] += 1
        return 15 if asked[0] == 6 else 0  # the first look asks for four blocks

    given: dict[str, Any] = {"model": model, "device": "cpu", "block_frames": 8}
    with pytest.raises(Interrupted, match="after frame 15"):
        localize(movie(), tmp_path / "d.parquet", stop=stop, **given)
    assert model.localizer.overview is None
    assert_equal(rows(localize(movie(), tmp_path / "d.parquet", resume=True, **given)), expected)


def test_the_first_look_can_be_interrupted(model: Model, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="stopped in the first look"):
        localize(movie(), tmp_path / "a.parquet", model=model, device="cpu", stop=lambda: 2)
    assert list(tmp_path.iterdir()) == []


def test_a_movie_of_one_frame_gives_a_table_and_a_warning(model: Model, tmp_path: Path) -> None:
    run = localize(movie(1), tmp_path / "a.parquet", model=model, device="cpu")
    assert run.localizations > 0
    assert any("the movie has 1 frame; model both looks at the mean" in warning for warning in run.warnings)
    run = localize(movie(20), tmp_path / "a.parquet", model=model, device="cpu")
    assert not any("looks at the mean" in warning for warning in run.warnings)


def test_a_model_file_keeps_the_context(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "both.safetensors", model)
    again = load_model(tmp_path / "both.safetensors").localizer
    assert (again.context, again.sees_all_frames) == (1, True)


def test_long_movies_are_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_LOOKED_OVER", 10)
    seen = list(blocks.all_over(movie(91), movie(91), 4))
    assert [len(block.counts) for block in seen] == [4, 4, 2]
    counts = movie(91).read(0, 91)
    np.testing.assert_array_equal(np.concatenate([block.counts for block in seen]), counts[::10])
    assert preparation.MOST_LOOKED_OVER >= 500


def test_frames_that_cannot_be_read_are_left_out_where_they_are_not_wanted() -> None:
    whole = movie(9)

    class Broken:
        def read(self, start: int, stop: int) -> np.ndarray:
            if start <= 8 < stop:
                raise MovieError("frame 8 is damaged")
            return whole.source.read(start, stop)

    broken = Movie(Broken(), "broken", whole.frames, whole.field_px, whole.roi_px)
    assert sum(len(block.counts) for block in blocks.all_over(broken, broken.crop((0, 5)), 4)) == 8
    with pytest.raises(MovieError, match="frame 8"):
        list(blocks.all_over(broken, broken, 4))


def test_a_model_without_global_context_is_not_shown_the_movie(model: Model) -> None:
    plain = Experiment.from_json(
        {**model.experiment.to_json(), "localizer": {"kind": "decode", "preset": "tiny"}}
    ).build_localizer()
    plain.look_over(iter([]))
    assert plain.overview is None  # type: ignore[union-attr]
