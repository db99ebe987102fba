"""Down both stairs: a document is trained, its model saved and loaded, and a movie becomes a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from denseloc.data import Frames
from denseloc.errors import DocumentError, ModelError, OutputError
from denseloc.experiment import Experiment
from denseloc.model_file import load_model
from denseloc.training import train

STEPS = 30


@pytest.fixture
def document(tiny_document: dict[str, Any], tmp_path: Path) -> Path:
    tiny_document["training"] = {**tiny_document["training"], "steps": STEPS, "batch_size": 4, "learning_rate": 4e-3, "warmup": 3}
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(tiny_document), encoding="utf-8")
    return path


def test_from_a_document_to_a_table(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    steps: list[int] = []
    trained = train(document, out, device="cpu", report=lambda p: steps.append(p.step))
    assert steps == [STEPS]
    assert not out.with_suffix(".checkpoint").exists()
    model = load_model(out)
    assert model.experiment == Experiment.from_file(document)
    assert model.record["steps"] == STEPS
    assert model.record["history"][-1]["step"] == STEPS
    assert model.record["device"]
    assert model.record["uncertainty"]["frames_checked"] > 0
    assert not trained.localizer.training

    microscope = model.experiment.build_microscope((37, 41))
    specimen = model.experiment.build_specimen((37, 41))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        counts = microscope.sample(specimen.draw(6, generator), specimen.draw_background(6, generator), generator)
    frames = Frames(microscope.camera.to_photons(counts), model.experiment.pixel_size_nm)
    model.localizer.threshold = 0.02  # so short a training is not sure of anything yet
    table = model.localizer(frames)
    assert len(table) > 0
    assert set(table.frame) <= set(range(6))
    assert not table.is_3d
    for name in ("x_nm", "y_nm", "photons", "background", "probability", "sigma_x_nm", "sigma_y_nm", "sigma_photons"):
        assert np.isfinite(table.columns[name]).all()


def test_a_stopped_training_goes_on_and_ends_like_an_uninterrupted_one(document: Path, tmp_path: Path) -> None:
    train(document, tmp_path / "whole.safetensors", device="cpu")

    calls = [0]

    def stop() -> bool:
        calls[0] += 1
        return calls[0] > 7

    out = tmp_path / "parts.safetensors"
    train(document, out, device="cpu", stop=stop)
    assert not out.exists()
    assert out.with_suffix(".checkpoint").exists()
    train(document, out, device="cpu", resume=True)
    assert not out.with_suffix(".checkpoint").exists()
    whole, parts = (load_model(tmp_path / f"{name}.safetensors").localizer.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_beginning_from_a_model(document: Path, tiny_document: dict[str, Any], tmp_path: Path) -> None:
    first = train(document, tmp_path / "first.safetensors", device="cpu")
    tiny_document["training"] = {**tiny_document["training"], "steps": 1}
    second = train(
        Experiment.from_json(tiny_document), tmp_path / "b.safetensors", device="cpu", start_from=tmp_path / "first.safetensors"
    )
    assert second.record["started_from"] == "first"
    fresh = Experiment.from_json(tiny_document).build_localizer().state_dict()
    for name, value in second.localizer.state_dict().items():
        if "first.weight" in name:
            near = (value - first.localizer.state_dict()[name]).norm()
            assert near < 0.3 * (value - fresh[name]).norm()


def test_mistakes_are_told_before_the_work(document: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"model file tiny.pt: expected a name that ends in .safetensors"):
        train(document, tmp_path / "tiny.pt")
    with pytest.raises(OutputError, match="does not exist"):
        train(document, tmp_path / "none" / "tiny.safetensors")
    with pytest.raises(DocumentError, match="cannot read the document"):
        train(tmp_path / "none.toml", tmp_path / "tiny.safetensors")
    with pytest.raises(ModelError, match="no model"):
        train(document, tmp_path / "tiny.safetensors", device="cpu", start_from="none")
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.toml"}
