"""Small movies and tables for the tests of the formats."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import Localizations, Provenance


@pytest.fixture
def counts():
    """12 frames of 6 x 8 px, every number different."""
    return np.arange(12 * 6 * 8, dtype=np.uint16).reshape(12, 6, 8)


@pytest.fixture
def provenance():
    return Provenance(
        pixel_size_nm=(100.0, 100.0),
        shape_px=(64, 32),
        n_frames=1000,
        movie="cell.tif",
        method="decode",
        experiment={"psf": {"kind": "gaussian", "width_nm": 130.0}, "list": [1, 2]},
        settings={"threshold": 0.5},
    )


@pytest.fixture
def table(provenance):
    """500 rows with all the columns that any format knows, inside the field of 32 x 64 px."""
    rng = np.random.default_rng(5)
    n = 500
    return Localizations(
        {
            "frame": np.sort(rng.integers(0, 1000, n)),
            "x_nm": rng.uniform(60, 3100, n),
            "y_nm": rng.uniform(60, 6300, n),
            "z_nm": rng.uniform(-700, 700, n),
            "photons": rng.uniform(100, 9000, n),
            "background": rng.uniform(0, 100, n),
            "probability": rng.uniform(0, 1, n),
            "sigma_x_nm": rng.uniform(3, 30, n),
            "sigma_y_nm": rng.uniform(3, 30, n),
            "sigma_z_nm": rng.uniform(10, 80, n),
            "width_nm": rng.uniform(100, 180, n),
        },
        provenance,
    )
