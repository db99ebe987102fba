"""What an inspection writes into the document where the movie is not clear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from denseloc.calibrate.conditions import Conditions, Estimate
from denseloc.calibrate.light import PhotonFit
from denseloc.verbs.inspection_document import _density, _depths, _photons, outshine


class Found:
    """Conditions of which only density and photons are asked for."""

    density_per_um2 = Estimate(4.56, 0.86, 24.2, "", "measured", "")
    photons = Estimate(1236.0, 230.0, 13300.0, "", "measured", "")


def law(mean: float) -> PhotonFit:
    values: dict[str, Any] = {name: None for name in PhotonFit.__dataclass_fields__}
    of = lambda value: Estimate(value, 0.9 * value, 1.1 * value, "", "measured", "")  # noqa: E731
    return PhotonFit(**{**values, "family": "gamma", "mean": of(mean), "sd": of(0.5 * mean)})


def test_depths_that_were_not_seen_are_those_of_the_psf() -> None:
    assert _depths(None, (-380.0, 420.0)) == [-380.0, 420.0]
    assert _depths(None, None) == [0.0, 0.0]


def test_the_range_of_densities_follows_its_interval_within_bounds() -> None:
    found: Conditions = Found()  # type: ignore[assignment]
    assert _density(found) == pytest.approx([4.56 / 3, 4.56 * 3], rel=1e-4)
    sure = Found()
    sure.density_per_um2 = replace(Found.density_per_um2, low=4.5, high=4.6)
    assert _density(sure) == pytest.approx([4.56 / 1.3, 4.56 * 1.3], rel=1e-4)  # type: ignore[arg-type]


def test_spots_that_outshine_the_crowd_are_not_the_law_of_all() -> None:
    found: Conditions = Found()  # type: ignore[assignment]
    assert outshine(found, law(6681.0))
    assert not outshine(found, law(1500.0))
    assert _photons(found, None, law(6681.0))["mean"] == pytest.approx(1236)
    assert _photons(found, None, law(1500.0))["mean"] == pytest.approx(1500)
