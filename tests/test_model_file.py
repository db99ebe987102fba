"""Model files: what is written comes back, and what is no model is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from denseloc.data import Frames
from denseloc.errors import ModelError, OutputError
from denseloc.experiment import Experiment
from denseloc.localize import Correction, Decode
from denseloc.localize.correction import Curve, SigmaCorrection
from denseloc.model_file import FORMAT, Model, find_model, initialise_from, load_model, save_model, shipped_models


@pytest.fixture
def model(tiny_document: dict[str, Any]) -> Model:
    experiment = Experiment.from_json(tiny_document)
    return Model(experiment.build_localizer(), experiment, {"steps": 12, "history": [{"step": 12, "loss": 1.5}]})


@pytest.fixture
def path(model: Model, tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny.safetensors", model)
    return tmp_path / "tiny.safetensors"


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["denseloc"])  # noqa: SIM118


def test_a_model_comes_back(model: Model, path: Path) -> None:
    again = load_model(path)
    assert again.experiment == model.experiment
    assert again.localizer.scales == model.localizer.scales
    assert again.localizer.conditions == model.localizer.scales.reference
    assert again.record == model.record
    assert again.name == "tiny"
    assert not again.localizer.training
    for name, value in model.localizer.state_dict().items():
        torch.testing.assert_close(again.localizer.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert not list(path.parent.glob(".*"))


def test_a_second_writing_changes_nothing(path: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again.safetensors", load_model(path))
    first, second = contents(path), contents(tmp_path / "again.safetensors")
    assert first[1] == second[1]
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


def test_a_fingerprint_is_that_of_the_weights(path: Path) -> None:
    one, same = load_model(path), load_model(path)
    assert one.fingerprint == same.fingerprint
    with torch.no_grad():
        next(same.localizer.parameters()).mul_(1.5)
    assert one.fingerprint != same.fingerprint


def test_the_file_says_its_units(path: Path) -> None:
    _, notes = contents(path)
    assert notes["format"] == FORMAT
    assert notes["conventions"]["origin"] == "outer corner of pixel (0, 0)"
    assert notes["columns"]["x_nm"] == "nm"
    assert notes["experiment"]["psf"]["width_nm"] == 130.0


def test_weights_and_record_survive_a_conversion_of_the_model_in_use(model: Model, path: Path) -> None:
    frames = Frames(torch.full((2, 1, 24, 24), 10.0), (100.0, 100.0))
    assert isinstance(model.localizer, Decode)
    assert len(load_model(path).localizer(frames)) == len(model.localizer.eval()(frames))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.9, 0.9999])
def test_a_truncated_file(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "is damaged or not a model file")


def test_a_file_of_something_else(path: Path) -> None:
    path.write_bytes(b"frame,x,y\n" * 400)
    refused(path, "is damaged or not a model file")


def test_tensors_of_another_program(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)
    refused(path, "holds tensors but no denseloc document; give a model made by 'denseloc train'")
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
    refused(path, "holds tensors but no denseloc document")


def test_a_newer_format(path: Path) -> None:
    tensors, notes = contents(path)
    save_file(tensors, path, {"denseloc": json.dumps({**notes, "format": FORMAT + 1})})
    refused(path, f"is a model of format {FORMAT + 1}, this denseloc reads up to {FORMAT}; install a newer denseloc")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[1]", "5", "null", '"x"', '{"format": "new"}', '{"format": Infinity}', "{}", "[" * 100_000]
)
def test_a_damaged_document(path: Path, text: str) -> None:
    save_file(contents(path)[0], path, {"denseloc": text})
    refused(path, "the document inside is damaged")


@pytest.mark.parametrize("record", [[1], "long", 5, None, {"history": [1]}, {"history": 3}])
def test_a_record_that_is_none(path: Path, record: Any) -> None:
    tensors, notes = contents(path)
    save_file(tensors, path, {"denseloc": json.dumps({**notes, "record": record})})
    refused(path, "the document inside is damaged")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("z_unit_nm", "deep"),
        ("photon_unit", float("nan")),
        ("pixel_size_nm", [float("inf"), 100]),
        ("pixel_size_nm", ["1", "2"]),
        ("planes", 1.5),
        ("planes", 10**9),
        ("reference", {"background": "dark"}),
        ("reference", [1]),
    ],
)
def test_scales_that_are_none(path: Path, name: str, value: Any) -> None:
    tensors, notes = contents(path)
    save_file(tensors, path, {"denseloc": json.dumps({**notes, "scales": {**notes["scales"], name: value}})})
    refused(path, "weights and document do not fit together")


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": None},
        {"experiment": [1]},
        {"experiment": "text"},
        {"scales": [1]},
        {"experiment": {}},
        {"experiment": []},
        {"scales": {}},
        {"scales": "wide"},
        {"scales": {"pixel_size_nm": [1, 2, 3], "reference": {"background": 1}}},
        {"scales": {"pixel_size_nm": [1, 2], "reference": {"brightness": 1}}},
    ],
)
def test_a_document_that_does_not_fit(path: Path, change: dict[str, Any]) -> None:
    tensors, notes = contents(path)
    save_file(tensors, path, {"denseloc": json.dumps({**notes, **change})})
    refused(path, "weights and document do not fit together")


@pytest.mark.parametrize("harm", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit(path: Path, harm: str) -> None:
    tensors, notes = contents(path)
    name = sorted(tensors)[0]
    if harm == "extra":
        tensors["net.extra"] = torch.zeros(2)
    elif harm == "missing":
        del tensors[name]
    else:
        tensors[name] = torch.zeros(7)
    save_file(tensors, path, {"denseloc": json.dumps(notes)})
    refused(path, "weights and document do not fit together")


def refused(path: Path, words: str) -> None:
    with pytest.raises(ModelError) as error:
        load_model(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "no model file")
    refused(tmp_path, "no model file")


def test_a_model_is_found_by_its_file_and_a_wrong_name_offers_the_nearest(path: Path) -> None:
    assert find_model(path).name == find_model(str(path)).name == "tiny"
    with pytest.raises(ModelError, match=r"no model 'tinny'.*or give a .safetensors file") as error:
        find_model("tinny")
    assert "\n" not in str(error.value)
    for name in shipped_models():
        with pytest.raises(ModelError, match=f"did you mean '{name}'"):
            find_model(name + "x")


def test_a_folder_that_is_not_there(model: Model, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        save_model(tmp_path / "none" / "tiny.safetensors", model)


def test_beginning_from_another_model_takes_what_fits(tiny_document: dict[str, Any], model: Model) -> None:
    same = Experiment.from_json(tiny_document | {"training": {**tiny_document["training"], "seed": 9}}).build_localizer()
    assert initialise_from(same, model.localizer) == len(model.localizer.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(same.state_dict().values(), model.localizer.state_dict().values(), strict=True))

    told = {"kind": "decode", "preset": "tiny", "conditioned": True}
    conditioned = Experiment.from_json(tiny_document | {"localizer": told}).build_localizer()
    films = [name for name in conditioned.state_dict() if "film" in name]
    assert initialise_from(conditioned, model.localizer) == len(conditioned.state_dict()) - len(films)
    assert films

    small = Experiment.from_json(tiny_document | {"localizer": {"kind": "decode", "preset": "small"}}).build_localizer()
    assert initialise_from(small, model.localizer) < 3  # but for a bias of the maps, nothing has the same shape


CORRECTION = Correction(
    {"sigma_x_nm": SigmaCorrection(Curve((-2.5, -1.0), (0.2, -0.1)), Curve((1.0, 9.0), (0.3, 0.0)))},
    Curve((-4.0, 3.0), (-3.0, 2.0)),
)


def test_a_correction_comes_back_and_is_applied(model: Model, tmp_path: Path) -> None:
    model.localizer.correction = CORRECTION
    save_model(tmp_path / "corrected.safetensors", model)
    again = load_model(tmp_path / "corrected.safetensors")
    assert again.localizer.correction == CORRECTION
    assert again.uncertainty is not None
    assert again.uncertainty["correction"] == CORRECTION.describe()
    frames = Frames(torch.full((2, 1, 24, 24), 10.0), (100.0, 100.0))
    again.localizer.eval()
    with torch.no_grad():
        again.localizer.net.leave.bias[:4] += 8.0  # type: ignore[union-attr, operator, index]
    corrected, again.localizer.correction = again.localizer(frames), None
    plain = again.localizer(frames)
    assert len(plain) > 0
    assert (corrected.sigma_x_nm != plain.sigma_x_nm).all()
    assert (corrected.sigma_y_nm == plain.sigma_y_nm).all()


def test_an_older_file_has_no_correction(path: Path) -> None:
    assert "correction" not in contents(path)[1]
    assert load_model(path).localizer.correction is None
    assert load_model(path).uncertainty is None


@pytest.mark.parametrize(
    "junk", [7, "x", [], {"sigmas": 3}, {"sigmas": {}, "probability": [[0, 1], [1, 0]]}, {"sigmas": {"sigma_x_nm": None}}]
)
def test_a_damaged_correction(path: Path, tmp_path: Path, junk: Any) -> None:
    tensors, notes = contents(path)
    save_file(tensors, tmp_path / "junk.safetensors", {"denseloc": json.dumps({**notes, "correction": junk})})
    refused(tmp_path / "junk.safetensors", "the document inside is damaged")


@pytest.mark.parametrize("astray", [1e9, float("nan")])
def test_weights_that_went_astray_are_not_written(model: Model, tmp_path: Path, astray: float) -> None:
    """Found at loading, they would have cost the checkpoint and the model that stood there before."""
    with torch.no_grad():
        next(model.localizer.parameters()).fill_(astray)
    with pytest.raises(ModelError, match=r"was not written: weights such as .* lower training\.learning_rate"):
        save_model(tmp_path / "tiny.safetensors", model)
    assert list(tmp_path.iterdir()) == []
