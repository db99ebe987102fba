"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data beside the checkout; tests that need them skip where they are absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the reference data folder 'shared' is not beside this checkout")
    return SHARED


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(1)


@pytest.fixture
def tiny_document() -> dict[str, Any]:
    """A document whose localizer trains in a second."""
    return {
        "name": "tiny",
        "pixel_size_nm": 100.0,
        "psf": {"kind": "gaussian", "width_nm": 130.0, "roi_px": 9},
        "camera": {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
        "specimen": {
            "density_per_um2": 0.5,
            "z_nm": [0.0, 0.0],
            "photons": {"kind": "log_uniform", "low": 1000.0, "high": 4000.0},
            "background": {"kind": "uniform", "photons": 10.0},
        },
        "localizer": {"kind": "decode", "preset": "tiny"},
        "training": {"steps": 12, "batch_size": 2, "frames": 3, "patch_px": 16, "warmup": 4, "seed": 3},
    }
