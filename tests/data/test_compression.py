"""Denser movies: sums of frames that lie far apart, lazily, with one offset."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import Compression, Localizations, Movie, Provenance, compressed, movie_from_array
from denseloc.errors import MovieError


def movie(n: int = 50, dtype: type = np.uint16, planes: int | None = None) -> tuple[Movie, np.ndarray]:
    shape = (n, 4, 5) if planes is None else (n, planes, 4, 5)
    counts = np.random.default_rng(0).integers(90, 1000, shape).astype(dtype)
    return movie_from_array(counts, "example", (110.0, 100.0)), counts


def test_the_frames_of_the_paper() -> None:
    """Frames 1, 301, 601, ... counted from 1 are summed."""
    which = Compression(6)
    counts = np.arange(1, 4001)
    source = movie_from_array(np.broadcast_to(counts[:, None, None], (4000, 1, 1)).astype(np.int32))
    sums = compressed(source, 6).read(0, 600)[:, 0, 0, 0]
    assert sums[0] == 1 + 301 + 601 + 901 + 1201 + 1501
    assert sums[299] == sum(300 + 300 * i for i in range(6))
    assert sums[300] == sum(1801 + 300 * i for i in range(6))
    assert (which.n_frames(4000), which.n_used(4000)) == (600, 3600)


@pytest.mark.parametrize(("factor", "apart"), [(2, 1), (3, 4), (5, 10), (7, 7)])
@pytest.mark.parametrize("planes", [None, 2])
def test_sums_by_hand(factor: int, apart: int, planes: int | None) -> None:
    source, counts = movie(planes=planes)
    sums = compressed(source, factor, apart)
    n = 50 // (factor * apart) * apart
    assert (sums.frames, sums.n_planes, sums.pixel_size_nm, sums.path) == ((0, n), planes or 1, (110.0, 100.0), None)
    expected = np.zeros((n, *counts.shape[1:]), np.int64)
    for old in range(n * factor):
        expected[Compression(factor, apart).frame_of(np.array(old))] += counts[old]
    whole = sums.read(0, n)
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole.reshape(expected.shape), expected)
    for start, stop in ((0, 1), (n - 1, n), (1, n - 1), (n // 2, n)):
        np.testing.assert_array_equal(sums.read(start, stop), whole[start:stop])


def test_every_frame_that_is_used_is_used_once() -> None:
    which = Compression(3, 4)
    new = which.frame_of(np.arange(which.n_used(50)))
    assert np.bincount(new).tolist() == [3] * which.n_frames(50)
    assert which.frame_of(np.array([0, 4, 8])).tolist() == [0, 0, 0]
    assert which.frame_of(np.array([1, 13])).tolist() == [1, 5]  # neighbours stay neighbours


def test_one_offset_stays() -> None:
    source, _ = movie()
    plain, one = compressed(source, 4, 5), compressed(source, 4, 5, 100.0)
    np.testing.assert_array_equal(one.read(0, 10), plain.read(0, 10) - 300)
    by_pixel = np.linspace(99, 101, 20).reshape(4, 5)
    found = compressed(source, 4, 5, by_pixel).read(0, 10)
    np.testing.assert_array_equal(found, plain.read(0, 10) - np.rint(3 * by_pixel).astype(int))
    floats, _ = movie(dtype=np.float32)
    found = compressed(floats, 4, 5, 100.3).read(0, 10)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain.read(0, 10) - 300.9, rtol=1e-5)


def test_wide_numbers_do_not_overflow() -> None:
    full = movie_from_array(np.full((20, 2, 2), 65535, np.uint16))
    assert (compressed(full, 10, 2).read(0, 2) == 655350).all()
    wide = movie_from_array(np.full((4, 2, 2), 2**31 + 5, np.uint32))
    assert (compressed(wide, 4, 1).read(0, 1) == 4 * (2**31 + 5)).all()


def test_a_part_of_a_movie() -> None:
    source, counts = movie()
    part = source.crop((10, 30), (1, 2, 2, 3))
    sums = compressed(part, 2, 5, np.arange(20).reshape(4, 5))
    assert (sums.frames, sums.shape_px, sums.origin_px, sums.field_px) == ((0, 10), (2, 3), (1, 2), (4, 5))
    expected = counts[12, 1:3, 2:5].astype(int) + counts[17, 1:3, 2:5] - np.arange(20).reshape(4, 5)[1:3, 2:5]
    np.testing.assert_array_equal(sums.read(2, 3)[0, 0], expected)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    asked: list[tuple[int, int]] = []

    class Source:
        def read(self, start: int, stop: int) -> np.ndarray:
            asked.append((start, stop))
            return np.ones((stop - start, 4, 5), np.uint16)

    sums = compressed(Movie(Source(), "lazy", (0, 100_000), (4, 5), (0, 0, 4, 5)), 6)
    assert asked == []
    sums.read(298, 303)
    assert len(asked) == 12
    assert sum(stop - start for start, stop in asked) == 30


@pytest.mark.parametrize(("factor", "apart", "n", "words"), [
    (1, 300, 5000, "factor 1; expected 2 or more"),
    (0, 300, 5000, "factor 0; expected 2 or more"),
    (6, 0, 5000, "frames 0 apart; expected 1 or more"),
    (6, 300, 1799, "example has 1799 frames; sums of 6 that are 300 apart need 1800: take them at most 299 apart"),
    (6, 300, 5, "give a longer one, or a smaller factor"),
])  # fmt: skip
def test_impossible_wishes(factor: int, apart: int, n: int, words: str) -> None:
    source = movie_from_array(np.zeros((n, 1, 1), np.uint8), "example")
    with pytest.raises(MovieError, match=words):
        compressed(source, factor, apart)


def test_the_truth_of_sums() -> None:
    frame = np.array([9, 10, 13, 14, 15, 16, 21, 22])
    columns = {"frame": frame, "x_nm": np.arange(8.0), "y_nm": np.zeros(8), "photons": np.full(8, 7.0)}
    rows = Localizations(columns, Provenance(n_frames=40))
    found = Compression(2, 3).table(rows, n_frames=13, first=10)  # frames 10 .. 21 are used, 22 is left over
    assert found.frame.tolist() == [0, 0, 1, 2, 3, 5]
    assert found.x_nm.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.provenance.n_frames == 6
