"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

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
