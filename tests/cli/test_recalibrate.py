"""The command that corrects the uncertainties of a trained model, and what follows from it down the stairs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from denseloc import model_file
from denseloc.cli import main
from denseloc.formats import read_table
from denseloc.model_file import load_model, save_model
from denseloc.verbs import recalibration

from .conftest import DOCUMENT


@pytest.fixture(scope="module", autouse=True)
def _few_frames():
    """Be content with fewer simulated frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recalibration, "put_right", partial(recalibration.put_right, batches=24))
        yield


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    """The trained model as an older version would have left it, with wider windows in its document, so that they hold more molecules."""
    model = load_model(place.model)
    model.localizer.correction = None
    training = model.experiment.training.model_copy(update={"patch_px": 40})
    record = {key: value for key, value in model.record.items() if key != "uncertainty"}
    path = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    save_model(path, replace(model, experiment=model.experiment.model_copy(update={"training": training}), record=record))
    return path


@pytest.fixture(scope="module")
def corrected(trained, tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("corrected") / "corrected.safetensors"
    assert main(["recalibrate", str(trained), "-o", str(path), "-q"]) == 0
    return path


def test_weights_stay_and_probabilities_become_true(trained, corrected):
    before, after = load_file(trained), load_file(corrected)
    assert all(torch.equal(before[name], after[name]) for name in before)
    model = load_model(corrected)
    assert model.localizer.correction is not None
    found = model.record["uncertainty"]
    assert found["frames_checked"] == 24 * 16

    def miss(key):
        return sum(abs(found[key]["pulls"]["x_nm"]["inside"][i] - found[key]["nominal"][i]) for i in (1, 3))

    assert miss("after") < miss("before") + 0.02, "so short a training leaves errors of no shape that a factor could mend"
    assert found["before"]["probability_error"] > 0.1 > 0.06 > found["after"]["probability_error"]
    assert model.record["steps"] == 80


def test_tables_say_what_was_corrected_and_the_report_shows_it(command, place, trained, corrected, tmp_path):
    plain, better = tmp_path / "plain.parquet", tmp_path / "better.parquet"
    for model, out in ((trained, plain), (corrected, better)):
        assert command("localize", place.movie, "-o", out, "--model", model, "--no-picture", "-q", "--block-frames", 16).code == 0
    first, second = read_table(plain), read_table(better)
    np.testing.assert_array_equal(first.x_nm, second.x_nm)
    assert (first.sigma_x_nm != second.sigma_x_nm).any()
    expected = load_model(corrected).localizer.correction.apply(first, (100.0, 100.0))
    np.testing.assert_allclose(second.sigma_x_nm, expected.sigma_x_nm, rtol=1e-4)
    np.testing.assert_allclose(second.probability, expected.probability, rtol=1e-4)
    known = second.provenance.settings["uncertainty"]
    assert known["correction"].startswith("sigma corrected by ")
    assert first.provenance.settings["weights"] != second.provenance.settings["weights"]
    page = better.with_suffix(".html").read_text()
    assert "Errors against sigma" in page
    assert "of the errors in x lie within one sigma (68 % if right)" in page


def test_the_command_says_what_it_found(command, corrected, tmp_path, monkeypatch):
    out = tmp_path / "again.safetensors"
    answer = command("recalibrate", corrected, "-o", out)
    assert answer.code == 0
    said = " ".join(answer.out.split())
    for words in ("model", "before x", "sigma x", "(68 and 95 % if right)", "sigma corrected by", "probability corrected"):
        assert words in said
    assert load_model(out).localizer.correction == load_model(corrected).localizer.correction, "a second time changes nothing"
    monkeypatch.setattr(model_file, "shipped_models", lambda: {"tiny": out})
    assert "within one and two sigma" in " ".join(command("models").out.split())


def test_without_another_name_the_file_itself_is_renewed(command, trained, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(trained.read_bytes())
    assert load_model(path).localizer.correction is None
    assert command("recalibrate", path, "-q").code == 0
    assert load_model(path).localizer.correction is not None
    assert [file.name for file in tmp_path.iterdir()] == ["mine.safetensors"]


def test_a_method_without_training_is_corrected_by_its_document(command, place, tmp_path, monkeypatch):
    monkeypatch.setattr(recalibration, "put_right", partial(recalibration.put_right, batches=10))
    text = DOCUMENT.replace('kind = "decode"\npreset = "tiny"', 'kind = "single"').replace("patch_px = 16", "patch_px = 40")
    text = text.replace("density_per_um2 = 0.4", "density_per_um2 = [0.5, 1.5]")
    document, path, table = tmp_path / "single.toml", tmp_path / "single.safetensors", tmp_path / "table.parquet"
    document.write_text(text)
    assert command("recalibrate", document, "-q").code == 2
    answer = command("recalibrate", document, "-o", path)
    assert answer.code == 0, answer.err
    model = load_model(path)
    assert model.localizer.settings.psf.width_nm == 120
    assert model.localizer.correction.range_of("sigma_x_nm")[1] > 1.05, "neighbours disturb these fits, and the bound knows of none"
    found = model.record["uncertainty"]

    def miss(key):
        return sum(abs(found[key]["pulls"]["x_nm"]["inside"][i] - found[key]["nominal"][i]) for i in (1, 3))

    assert miss("after") < 0.7 * miss("before")
    assert command("localize", place.movie, "-o", table, "--model", path, "--no-picture", "-q").code == 0
    rows = read_table(table)
    assert len(rows) > 20
    factor = model.localizer.correction.sigmas["sigma_x_nm"].factor(rows.crlb_x_nm.astype(float) / 100, None)
    np.testing.assert_allclose(rows.sigma_x_nm, factor * rows.crlb_x_nm, rtol=1e-4)
    assert rows.provenance.settings["uncertainty"]["correction"].startswith("sigma corrected by ")


def test_methods_with_nothing_to_correct_say_so(command, tmp_path):
    for kind, words in (("cel0", "states no standard deviations; nothing to correct"), ("decode", "denseloc train document.toml")):
        document = tmp_path / "document.toml"
        document.write_text(
            DOCUMENT.replace('kind = "decode"\npreset = "tiny"', f'kind = "{kind}"').replace("patch_px = 16", "patch_px = 24")
        )
        answer = command("recalibrate", document, "-o", tmp_path / "m.safetensors")
        assert answer.code == 2
        assert words in answer.err
        assert len(answer.err.strip().splitlines()) == 1


def test_mistakes_are_one_line(command, place, tmp_path):
    for words, arguments in (
        ("belongs to the package", ("general-2d",)),
        ("expected a name that ends in .safetensors", (place.model, "-o", tmp_path / "m.pt")),
        ("no model file", (tmp_path / "none.safetensors",)),
    ):
        answer = command("recalibrate", *arguments)
        assert answer.code == 2
        assert words in answer.err
        assert len(answer.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_model_that_finds_nothing_is_refused(command, general, tmp_path):
    answer = command("recalibrate", general, "-o", tmp_path / "m.safetensors")
    assert answer.code == 2
    assert "of its own simulations, expected 400 or more; train it longer" in answer.err
