"""What an inspection says of a camera that was given."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import movie_from_array
from denseloc.preparation import parse_camera
from denseloc.verbs import inspect


@pytest.mark.parametrize(("more", "source"), [("", "assumed"), (",read_noise=1.5", "given")])
def test_a_read_noise_that_nobody_gave_is_called_assumed(more: str, source: str) -> None:
    rng = np.random.default_rng(0)
    light = 5 + 40 * rng.random((32, 32))
    counts = np.round(100 + 2 * rng.poisson(light, (40, 32, 32)) + rng.normal(0, 3, (40, 32, 32)))
    movie = movie_from_array(counts.clip(0).astype(np.uint16), pixel_size_nm=(100.0, 100.0))
    found = inspect(movie, camera=parse_camera(f"offset=100,electrons_per_count=0.5{more}"))
    assert found.fact("camera read noise").source.split(";")[0] == source
    assert "the movie itself shows" in found.fact("camera read noise").source
    assert found.fact("camera gain").source.startswith("given")
