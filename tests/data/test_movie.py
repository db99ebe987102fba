"""Movies: lazy, cropped, walked over in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import Movie, movie_from_array
from denseloc.errors import MovieError


@pytest.fixture
def counts() -> np.ndarray:
    return np.arange(10 * 5 * 7, dtype=np.uint16).reshape(10, 5, 7)


@pytest.fixture
def movie(counts: np.ndarray) -> Movie:
    return movie_from_array(counts, "example", (110.0, 100.0))


def test_what_a_movie_says(movie: Movie) -> None:
    assert (movie.n_frames, movie.shape_px, movie.origin_px, movie.n_planes) == (10, (5, 7), (0, 0), 1)
    assert movie.pixel_size_nm == (110.0, 100.0)


def test_read_gives_planes_and_the_own_number_type(movie: Movie, counts: np.ndarray) -> None:
    read = movie.read(2, 4)
    assert read.shape == (2, 1, 5, 7)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[:, 0], counts[2:4])
    planes = movie_from_array(np.zeros((3, 2, 5, 7), np.float32))
    assert planes.n_planes == 2
    assert planes.read(0, 3).shape == (3, 2, 5, 7)


def test_a_crop_keeps_numbers_and_places_of_the_whole(movie: Movie, counts: np.ndarray) -> None:
    part = movie.crop((3, 8), (1, 2, 3, 4))
    assert (part.n_frames, part.shape_px, part.origin_px) == (5, (3, 4), (1, 2))
    np.testing.assert_array_equal(part.read(3, 5)[:, 0], counts[3:5, 1:4, 2:6])
    assert part.crop((None, 5)).frames == (3, 5)
    assert part.crop((5, None)).frames == (5, 8)
    assert part.crop(roi_px=(0, 0, 5, 7)).shape_px == (5, 7)


@pytest.mark.parametrize("frames", [(-1, 5), (0, 11), (5, 5), (6, 2)])
def test_frames_outside_are_refused(movie: Movie, frames: tuple[int, int]) -> None:
    with pytest.raises(MovieError, match=f"frames {frames[0]}:{frames[1]} asked for, the movie has 0:10"):
        movie.crop(frames)


@pytest.mark.parametrize("roi", [(-1, 0, 2, 2), (0, 0, 0, 3), (0, 0, 6, 7), (2, 3, 3, 5)])
def test_regions_outside_are_refused(movie: Movie, roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(MovieError, match="is not inside the field of 5 x 7 px"):
        movie.crop(roi_px=roi)


@pytest.mark.parametrize("n", [1, 3, 10, 50])
@pytest.mark.parametrize("overlap", [0, 1, 4])
@pytest.mark.parametrize("frames", [(None, None), (2, 9)])
def test_blocks_cover_each_frame_once_with_context(movie: Movie, counts: np.ndarray, n: int, overlap: int, frames: tuple) -> None:
    part = movie.crop(frames)
    first, last = part.frames
    walked: list[int] = []
    for block in part.blocks(n, overlap):
        walked += range(block.start, block.stop)
        assert block.first == max(first, block.start - overlap)
        assert block.first + len(block.counts) == min(last, block.stop + overlap)
        np.testing.assert_array_equal(block.counts[:, 0], counts[block.first : block.first + len(block.counts)])
    assert walked == list(range(first, last))


def test_blocks_begin_where_asked(movie: Movie) -> None:
    blocks = list(movie.blocks(4, 1, start=6))
    assert [(b.first, b.start, b.stop) for b in blocks] == [(5, 6, 10)]


def test_a_sample_is_spread_over_the_movie(movie: Movie, counts: np.ndarray) -> None:
    np.testing.assert_array_equal(movie.sample(3)[:, 0], counts[[0, 4, 9]])
    assert len(movie.sample(500)) == 10
    assert len(movie.crop((2, 3)).sample(5)) == 1


def test_an_array_of_another_shape_is_no_movie() -> None:
    with pytest.raises(MovieError, match=r"an array of shape \(4, 5\) is not a movie"):
        movie_from_array(np.zeros((4, 5)))


def test_planes_that_follow_one_another_become_frames():
    images = np.arange(12 * 8 * 9, dtype=np.uint16).reshape(12, 8, 9)
    movie = movie_from_array(images).with_planes(4)
    assert (movie.n_frames, movie.n_planes) == (3, 4)
    np.testing.assert_array_equal(movie.read(1, 3), images[4:].reshape(2, 4, 8, 9))
    np.testing.assert_array_equal(movie.crop((2, 3), (1, 2, 5, 6)).read(2, 3)[0], images[8:, 1:6, 2:8])
    with pytest.raises(MovieError, match="12 images"):
        movie_from_array(images).with_planes(5)
