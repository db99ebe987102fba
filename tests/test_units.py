"""Pixels and nm."""

import numpy as np
import pytest
import torch

from denseloc.units import index_to_nm, is_plausible_pixel_size, nm_to_index, pixel_size_pair


def test_the_centre_of_the_first_pixel_lies_half_a_pixel_from_the_corner() -> None:
    assert index_to_nm(0, 100.0) == 50.0
    assert nm_to_index(0.0, 100.0) == -0.5


@pytest.mark.parametrize("index", [3.25, np.array([-1.0, 0.5]), torch.tensor([7.0, 8.25])])
def test_there_and_back(index: object) -> None:
    back = nm_to_index(index_to_nm(index, 117.0), 117.0)
    np.testing.assert_allclose(np.asarray(back), np.asarray(index), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "pair"),
    [
        (100, (100.0, 100.0)),
        (97.5, (97.5, 97.5)),
        ((110, 100), (110.0, 100.0)),
        ([110, 100], (110.0, 100.0)),
        (np.float64(9), (9.0, 9.0)),
    ],
)
def test_a_pixel_size_is_a_pair_y_x(given: object, pair: tuple[float, float]) -> None:
    assert pixel_size_pair(given) == pair  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "plausible"), [((5, 2000), True), ((4.9, 100), False), ((100, 2001), False), ((100, float("nan")), False)]
)
def test_pixels_of_microscopes_are_5_to_2000_nm_wide(size: tuple[float, float], plausible: bool) -> None:
    assert is_plausible_pixel_size(size) is plausible
