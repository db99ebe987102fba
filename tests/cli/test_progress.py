"""Progress: slow methods report often, and rates below ten have digits."""

from __future__ import annotations

import pytest

from denseloc import pipeline
from denseloc.blocks import frames_at_once
from denseloc.cli.words import per_second
from denseloc.formats import open_movie
from denseloc.localize import CEL0, Multi


@pytest.mark.parametrize(("value", "text"), [(0.0612, "0.061"), (3.49, "3.5"), (9.96, "10"), (1234.5, "1 234")])
def test_a_rate_is_never_nothing(value: float, text: str) -> None:
    assert per_second(value) == text


def test_slow_methods_work_in_small_blocks(place) -> None:
    movie = open_movie(place.movie)  # 24 x 20 px
    assert frames_at_once(movie, None, Multi.block_px) < frames_at_once(movie, None)
    assert frames_at_once(movie, None, 480 * 10) == 10
    assert frames_at_once(movie, 7, 480 * 10) == 7
    assert Multi.block_px // 64**2 <= 32
    assert CEL0.block_px // 64**2 <= 64


def test_the_method_sets_the_block(place, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Multi, "block_px", 480 * 10)
    done: list[int] = []
    pipeline.localize(
        place.movie, tmp_path / "t.parquet", method="multi", pixel_size_nm=100, report=lambda progress: done.append(progress.frames)
    )
    assert done == [10, 20, 30, 40]
