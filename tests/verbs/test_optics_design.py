"""The verb and the command that design a mask: files that other programs and other verbs take, resuming, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from scipy.io import loadmat

from denseloc import verbs
from denseloc.cli import main
from denseloc.errors import DocumentError, ModelError, OutputError, TrainingError
from denseloc.experiment import Experiment
from denseloc.files import alone
from denseloc.formats import read_table
from denseloc.formats.psf_files import read_psf
from denseloc.model_file import load_model
from denseloc.optics import PupilSettings
from denseloc.optics.masks import ArrayMaskSettings
from denseloc.optics_document import OpticsDocument
from denseloc.pipeline import localize
from denseloc.report.plates import plain

VALUES: dict[str, Any] = {
    "name": "small",
    "pixel_size_nm": 110.0,
    "psf": {
        "kind": "pupil",
        "wavelength_nm": 600.0,
        "numerical_aperture": 1.2,
        "immersion_index": 1.33,
        "model": "scalar",
        "roi_px": 15,
        "pupil_px": 24,
    },
    "camera": {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
    "specimen": {
        "density_per_um2": 0.4,
        "z_nm": [-400.0, 400.0],
        "photons": {"kind": "constant", "photons": 3000.0},
        "background": {"kind": "uniform", "photons": 20.0},
    },
    "localizer": {"kind": "decode", "preset": "tiny"},
    "training": {"steps": 4, "batch_size": 2, "frames": 3, "patch_px": 16, "warmup": 2, "seed": 3},
}
FISHER = {"steps": 3, "z_step_nm": 200.0}
MODULATOR = {"rows": 90, "columns": 120, "pixel_um": 24.0, "focal_length_mm": 60.0, "magnification": 100.0}


def written(path: Path, **design: Any) -> Path:
    path.write_text(json.dumps({**VALUES, "design": design}))
    return path


def test_files_of_a_design_by_fisher_information(tmp_path: Path) -> None:
    document = written(tmp_path / "d.json", **FISHER, mask="free", modulator=MODULATOR)
    made = verbs.design(document, tmp_path / "out")
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    masks = {"mask.npy", "mask.mat", "mask.tif", "modulator.tif"}
    assert names == {"design.png", "design.json", "psf.h5", "experiment.json", "steps"} | masks
    assert len(list((out / "steps").iterdir())) == 3
    assert made.steps == made.planned == 3

    section = read_psf(out / "psf.h5").section
    assert isinstance(section, PupilSettings)
    assert section.mask is not None
    phase = np.load(out / "mask.npy")
    assert phase.shape == (90, 120)
    assert np.abs(phase).max() <= np.pi
    np.testing.assert_allclose(loadmat(out / "mask.mat")["mask_rad"], phase, atol=1e-6)
    np.testing.assert_allclose(tifffile.imread(out / "mask.tif"), phase, atol=1e-6)
    grey = tifffile.imread(out / "modulator.tif")
    assert grey.dtype == np.uint8
    turns = np.angle(np.exp(1j * (grey.astype(float) * 2 * np.pi / 256 - phase)))
    assert np.abs(turns).max() < 1.01 * np.pi / 256

    relay = {key: MODULATOR[key] for key in ("pixel_um", "focal_length_mm", "magnification")}
    back = section.model_copy(update={"mask": ArrayMaskSettings(values=str(out / "mask.mat"), **relay)})
    one, other = (s.build((110.0, 110.0)) for s in (section, back))
    z = np.linspace(-400, 400, 3)
    images = [p(*_places(z))[:, 0].detach().numpy() for p in (one, other)]
    assert np.abs(images[0] - images[1]).max() < 0.06 * images[0].max()

    experiment = Experiment.from_file(out / "experiment.json")
    assert experiment.psf.kind == "spline"
    drawn = experiment.psf.build((110.0, 110.0))(*_places(z))[:, 0].detach().numpy()
    assert np.abs(drawn - images[0]).max() < 0.03 * images[0].max()


def _places(z: np.ndarray) -> tuple[Any, Any]:
    return torch.zeros(len(z), 2), torch.tensor(z, dtype=torch.float32)


def test_a_co_design_gives_a_model_that_localizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denseloc.verbs.optics_design.PICTURES", 1)
    document = written(tmp_path / "d.json", objective="network", z_step_nm=200.0)
    stopped = verbs.design(document, tmp_path / "out", stop=iter([False, False, True]).__next__)
    assert stopped.steps == 2
    assert (tmp_path / "out" / "design.checkpoint").exists()
    assert (tmp_path / "out" / "design.png").exists()
    with pytest.raises(TrainingError, match="--resume"):
        verbs.design(document, tmp_path / "out")
    made = verbs.design(document, tmp_path / "out", resume=True)
    assert made.model is not None
    assert not (tmp_path / "out" / "design.checkpoint").exists()
    model = load_model(tmp_path / "out" / "model.safetensors")
    assert model.experiment.psf.mask.kind == "zernike"
    movie = tmp_path / "m.tif"
    verbs.simulate(tmp_path / "out" / "experiment.json", movie, n_frames=4, shape_px=(16, 16))
    run = localize(
        movie, tmp_path / "t.parquet", model=tmp_path / "out" / "model.safetensors", pixel_size_nm=110.0, threshold=0.001
    )
    known = read_table(run.table).provenance.experiment
    assert known is not None
    assert known["psf"]["mask"]["kind"] == "zernike"


def test_a_co_design_trains_late_weights_as_any_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that learns in two parts, stopped in the second one, goes on to the model of an uninterrupted design."""
    monkeypatch.setattr("denseloc.verbs.optics_design.draw", lambda *_: None)
    values = {**VALUES, "localizer": {"kind": "luenn", "preset": "tiny", "threshold": 1e-6}}
    values["training"] = {**VALUES["training"], "steps": 6, "patch_px": 24}
    asked = OpticsDocument.from_json({**values, "design": {"objective": "network", "z_step_nm": 200.0}})
    untrained = asked.build_localizer().state_dict()
    whole = verbs.design(asked, tmp_path / "whole")
    assert whole.is_finished
    assert whole.model is not None
    assert whole.model.uncertainty is not None
    trained = whole.model.localizer.state_dict()
    assert any(not torch.equal(untrained[name], trained[name]) for name in trained if name.startswith("errors."))

    calls = iter(range(100))
    stopped = verbs.design(asked, tmp_path / "part", stop=lambda: next(calls) >= 6)  # six steps, and no late one
    assert (stopped.steps, stopped.planned, stopped.is_finished, stopped.model) == (6, 6, False, None)
    assert not (tmp_path / "part" / "model.safetensors").exists()
    again = verbs.design(asked, tmp_path / "part", resume=True)
    assert again.model is not None
    assert not (tmp_path / "part" / "design.checkpoint").exists()
    assert all(torch.equal(trained[name], value) for name, value in again.model.localizer.state_dict().items())


def test_a_co_design_asks_for_first_weights_and_memory_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = {"objective": "network", "z_step_nm": 200.0}
    pretrained = {"kind": "luenn", "preset": "paper", "encoder_weights": str(tmp_path / "none.safetensors")}
    with pytest.raises(ModelError, match="encoder_weights: no file"):
        verbs.design(OpticsDocument.from_json({**VALUES, "localizer": pretrained, "design": design}), tmp_path / "out")
    monkeypatch.setattr("denseloc.train.course.free_bytes", lambda device: 1e6)
    large = {"kind": "deep_storm_3d", "preset": "tiny"}
    with pytest.raises(TrainingError, match="training needs about"):
        verbs.design(OpticsDocument.from_json({**VALUES, "localizer": large, "design": design}), tmp_path / "out")


def test_what_cannot_be_designed_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "small.npy", np.zeros((20, 20), np.float32))
    mask = {"kind": "array", "values": str(tmp_path / "small.npy"), "aperture_px": 40.0}
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"psf": {**VALUES["psf"], "mask": mask}}, FISHER, "start mask has 20 x 20"),
        ({}, {**FISHER, "modulator": {**MODULATOR, "rows": 40}}, "on the modulator of 40 x 120"),
        (
            {"psf": {**VALUES["psf"], "pupil_px": 16}, "specimen": {**VALUES["specimen"], "z_nm": [-3000, 3000]}},
            FISHER,
            "too coarse for z",
        ),
    ]
    for change, design, words in cases:
        wanted = OpticsDocument.from_json({**VALUES, **change, "design": design})
        with pytest.raises(DocumentError, match=words) as error:
            verbs.design(wanted, tmp_path / "out")
        assert "\n" not in str(error.value)
    monkeypatch.setattr("denseloc.verbs.optics_checks.memory_bytes", lambda device: 10_000)
    with pytest.raises(DocumentError, match="depths of 15 x 15 px"):
        verbs.design(OpticsDocument.from_json({**VALUES, "design": FISHER}), tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected a folder"):
        verbs.design(OpticsDocument.from_json({**VALUES, "design": FISHER}), tmp_path / "file")


def test_the_command_designs_and_says_what_it_brought(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = written(tmp_path / "d.json", **FISHER)
    assert main(["design", str(document), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    for words in ("design.png", "bound ", "on average", "psf.h5"):
        assert words in said
    assert main(["design", str(written(tmp_path / "e.json", steps=3, degre=4)), "-o", str(tmp_path / "out2")]) == 2
    assert "did you mean 'degree'" in capsys.readouterr().err


def test_names_may_hold_what_begins_a_formula(tmp_path: Path) -> None:
    """A drawing that takes a name for a formula would end a design at its first picture."""
    document = tmp_path / "a.json"
    document.write_text(json.dumps({**VALUES, "name": "for $5 or $_x^", "design": FISHER}))
    assert verbs.design(document, tmp_path / "out").is_finished
    assert plain("a $ b") == r"a \$ b"


def test_two_designs_do_not_share_a_folder(tmp_path: Path) -> None:
    document, out = written(tmp_path / "a.json", **FISHER), tmp_path / "out"
    out.mkdir()
    with alone(out / "design.checkpoint"), pytest.raises(OutputError, match="is being written by another run"):
        verbs.design(document, out)
    (out / "design.checkpoint").write_text("of the other run")
    with alone(out / "design.checkpoint"), pytest.raises(OutputError, match="is being written by another run"):
        verbs.design(document, out)  # and not: remove the checkpoint


def test_nothing_to_go_on_from_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = written(tmp_path / "a.json", **FISHER)
    assert main(["design", str(document), "-o", str(tmp_path / "out"), "--resume"]) == 0
    assert "there is no design.checkpoint to go on from; it begins from the beginning" in capsys.readouterr().out


def test_the_command_names_the_file_for_the_modulator_and_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("with", {"modulator": MODULATOR}), ("without", {})):
        assert main(["design", str(written(tmp_path / f"{name}.json", **FISHER, **more)), "-o", str(tmp_path / name)]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert f"denseloc train {tmp_path / name / 'experiment.json'}" in told
        assert ("modulator.tif grey levels" in told) == (name == "with")
