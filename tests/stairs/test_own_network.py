"""The network of examples/ that stands outside of the package takes every step of the stairs."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from denseloc import description
from denseloc.errors import DocumentError
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.localize import LOCALIZERS
from denseloc.pipeline import localize
from denseloc.training import train
from denseloc.verbs.simulation import simulate

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_network.py"

DOCUMENT = {
    "pixel_size_nm": 100,
    "psf": {"kind": "gaussian", "width_nm": 130, "roi_px": 11},
    "camera": {"kind": "ideal"},
    "specimen": {
        "density_per_um2": 0.5,
        "z_nm": [0, 0],
        "structure": {"kind": "uniform"},
        "photons": {"kind": "constant", "photons": 3000},
        "background": {"kind": "uniform", "photons": 5},
    },
    "localizer": {"kind": "plain", "features": 12},
    "training": {"steps": 200, "batch_size": 8, "frames": 4, "patch_px": 24, "warmup": 20, "average": 0.9},
}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Offer the example as an installed package would: by an entry point, loaded when a document asks for its kind."""
    entry = SimpleNamespace(load=lambda: runpy.run_path(str(EXAMPLE)))
    monkeypatch.setattr(description, "entry_points", lambda group: [entry] if group == "denseloc" else [])
    monkeypatch.setattr(LOCALIZERS, "sections", dict(LOCALIZERS.sections))
    description.load_plugins.cache_clear()
    yield
    description.load_plugins.cache_clear()


def test_it_is_short() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line.strip()]
    assert len(lines) < 60


def test_it_is_trained_kept_and_used(plain: None, tmp_path: Path) -> None:
    experiment = Experiment.from_json(DOCUMENT)
    train(experiment, tmp_path / "plain.safetensors", device="cpu")
    movie = simulate(experiment, tmp_path / "m.tif", n_frames=20, shape_px=(40, 36), seed=3)
    run = localize(movie.movie, tmp_path / "t.parquet", model=tmp_path / "plain.safetensors", device="cpu")
    found, truth = read_table(run.table), read_table(movie.truth)
    assert 0.6 * len(truth) < len(found) < 1.2 * len(truth)
    assert run.provenance.method == "plain: plain"


def test_a_key_written_wrong_is_said_with_the_nearest_one_of_its_own(plain: None) -> None:
    with pytest.raises(DocumentError, match=r"'localizer': unknown key 'feature' \(did you mean 'features'\?\)"):
        Experiment.from_json({**DOCUMENT, "localizer": {"kind": "plain", "feature": 12}})


def test_without_it_the_kind_is_unknown() -> None:
    with pytest.raises(DocumentError, match="unknown localizer 'plain'"):
        Experiment.from_json(DOCUMENT)
