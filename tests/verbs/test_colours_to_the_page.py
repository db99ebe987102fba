"""Colours from the document to the page: simulate, train, localize, evaluate, report, design; what does not tell colours says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denseloc import verbs
from denseloc.cli import main
from denseloc.errors import DenselocError, DocumentError, ModelError
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.formats.psf_files import read_psf
from denseloc.model_file import Model, load_model, save_model
from denseloc.optics import ColoursSettings
from denseloc.optics_document import OpticsDocument
from denseloc.pipeline import localize
from denseloc.training import train

OPTICS = {"wavelength_nm": 600.0, "numerical_aperture": 1.2, "immersion_index": 1.33, "model": "scalar", "pupil_px": 24}
VALUES: dict[str, Any] = {
    "name": "two colours",
    "pixel_size_nm": 110.0,
    "psf": {"kind": "colours", "roi_px": 15, "wavelengths_nm": [590.0, 690.0], "optics": OPTICS},
    "camera": {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
    "specimen": {
        "density_per_um2": 0.4,
        "z_nm": [-200.0, 200.0],
        "photons": {"kind": "constant", "photons": 3000.0},
        "background": {"kind": "uniform", "photons": 20.0},
        "channel_shares": [0.3, 0.7],
    },
    "localizer": {"kind": "decode", "preset": "tiny"},
    "training": {"steps": 3, "batch_size": 2, "frames": 3, "patch_px": 16, "warmup": 2, "seed": 3},
}
DESIGN = {"objective": "network", "degree": 4, "z_step_nm": 200.0}


def experiment(**change: Any) -> Experiment:
    return Experiment.from_json({**VALUES, **change})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie with its truth, a model that was hardly trained, and a table that it has made."""
    folder = tmp_path_factory.mktemp("colours")
    made = verbs.simulate(experiment(), folder / "movie.tif", n_frames=30, shape_px=(40, 40))
    assert made.emitters > 150
    model = train(experiment(), folder / "model.safetensors")
    with torch.no_grad():
        model.localizer.net.leave.bias[:4] = -2.0
    counted = model.record["uncertainty"]["colours"]["counts"]  # on simulations, at the end of the training
    assert [len(row) for row in counted] == [2, 2]
    known = {"counts": [[90, 10], [20, 80]], "right": 0.85}
    record = {**model.record, "uncertainty": {**model.record["uncertainty"], "colours": known}}
    save_model(folder / "model.safetensors", Model(model.localizer, model.experiment, record))
    localize(folder / "movie.tif", folder / "table.parquet", model=folder / "model.safetensors", threshold=0.05)
    return folder


def test_molecules_keep_their_channels_and_come_in_the_shares() -> None:
    blinking = {"kind": "exponential", "lifetime_frames": 3.0}
    specimen = experiment(specimen={**VALUES["specimen"], "blinking": blinking, "density_per_um2": 2.0}).build_specimen((64, 64))
    drawn = specimen.draw(30, torch.Generator().manual_seed(1))
    channel = torch.full((int(drawn.molecule.max()) + 1,), -1)
    channel[drawn.molecule] = drawn.channel
    assert (channel[drawn.molecule] == drawn.channel).all()
    known = channel[channel >= 0]
    assert len(known) > 700
    assert float((known == 1).float().mean()) == pytest.approx(0.7, abs=0.06)
    few = drawn.select(torch.arange(2))
    both = [specimen.log_prob(type(few)(**{**vars(few), "channel": torch.full((2,), c)}), 30).sum() for c in (0, 1)]
    assert float(both[1] - both[0]) == pytest.approx(2 * np.log(0.7 / 0.3), rel=1e-3)


def test_one_colour_draws_what_it_drew() -> None:
    plain = {name: value for name, value in VALUES["specimen"].items() if name != "channel_shares"}
    one = experiment(psf={"kind": "pupil", "roi_px": 15, **OPTICS}, specimen=plain).build_specimen((32, 32))
    again = Experiment.from_json({**VALUES, "psf": {"kind": "gaussian", "width_nm": 120.0}, "specimen": plain}).build_specimen(
        (32, 32)
    )
    first, second = (s.draw(5, torch.Generator().manual_seed(2)) for s in (one, again))
    assert (first.channel == 0).all()
    torch.testing.assert_close(first.x_nm, second.x_nm)


def test_truth_and_table_tell_channels(done: Path) -> None:
    truth, table = read_table(done / "movie.truth.parquet"), read_table(done / "table.parquet")
    assert np.bincount(truth.channel)[1] / len(truth) == pytest.approx(0.7, abs=0.1)
    assert len(table) > 20
    assert set(table.channel.tolist()) <= {0, 1}
    assert ((table.channel_probability >= 0.5 - 1e-6) & (table.channel_probability <= 1)).all()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_native_tables_keep_both_columns(done: Path, tmp_path: Path, suffix: str) -> None:
    verbs.convert(done / "table.parquet", tmp_path / f"table.{suffix}")
    again, table = read_table(tmp_path / f"table.{suffix}"), read_table(done / "table.parquet")
    np.testing.assert_array_equal(again.channel, table.channel)
    np.testing.assert_allclose(again.channel_probability, table.channel_probability, atol=1e-6)


def test_evaluate_shows_who_is_taken_for_whom(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(done / "movie.truth.parquet"), str(done / "movie.truth.parquet"), "--border-nm", "100"]) == 0
    text = capsys.readouterr().out
    assert "right channel / %" in text
    assert re.search(r"channel 0 +\d+ +0 +100.0", text)
    assert main(["evaluate", str(done / "table.parquet"), str(done / "movie.truth.parquet"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(len(one["colours"]["counts"]) == 2 for one in found.values())


def test_the_report_shows_colours(done: Path, tmp_path: Path) -> None:
    table = read_table(done / "table.parquet")
    verbs.report(table.with_provenance(movie=None, experiment=None), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "in channel " in page
    assert "Histogram of the probability of the stated colour" in page
    assert "Who is taken for whom" in page
    assert "85.0 % of 200 pairs have the right channel" in page


def test_training_counts_right_channels(done: Path) -> None:
    record = load_model(done / "model.safetensors").record
    assert "right_channel" in record["history"][-1]


def test_a_model_of_colours_is_checked(done: Path) -> None:
    found = verbs.check(done / "model.safetensors", done / "movie.tif")
    assert found.verdict in ("pass", "warn", "fail")


# --------------------------------------------------------------------------------------------------------- what does not tell colours


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"localizer": {"kind": "luenn"}},
            "2 colour channels, which a localizer of kind 'luenn' does not tell; take localizer.kind = 'decode'",
        ),
        ({"localizer": {"kind": "multi"}}, "localizer of kind 'multi' does not tell"),
        ({"specimen": {**VALUES["specimen"], "channel_shares": [1.0]}}, "channel_shares has 1 entries, the PSF has 2 channels"),
        ({"specimen": {**VALUES["specimen"], "channel_shares": [0.5, 0.6]}}, "add up to 1, they add up to 1.1"),
        ({"specimen": {**VALUES["specimen"], "channel_shares": [1.2, -0.2]}}, "expected shares above 0"),
        ({"psf": {"kind": "gaussian", "width_nm": 120.0}}, "channel_shares has 2 entries, the PSF has 1 channel;"),
        (
            {"localizer": {"kind": "single", "psf": VALUES["psf"]}, "psf": {"kind": "gaussian", "width_nm": 120.0}},
            "a fit takes the PSF of one colour, found 2 channels",
        ),
    ],
)
def test_documents_that_cannot_be(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError, match=words) as error:
        experiment(**change)
    assert "\n" not in str(error.value)


def test_verbs_that_know_one_colour_say_so(done: Path, tmp_path: Path) -> None:
    psf = ColoursSettings(**VALUES["psf"])
    with pytest.raises(ModelError, match="method 'single' fits the PSF of one colour, found 2 channels") as error:
        localize(done / "movie.tif", tmp_path / "t.csv", psf=psf)
    assert "\n" not in str(error.value)
    with pytest.raises(DenselocError, match="fits the PSF of one colour, found 2 channels"):
        verbs.refine(done / "table.parquet", done / "movie.tif", tmp_path / "t.csv")
    with pytest.raises(ModelError, match="tells 2 colours, which adapt cannot learn from a movie"):
        verbs.adapt(done / "model.safetensors", done / "movie.tif", tmp_path / "a.safetensors")


# ----------------------------------------------------------------------------------------------------------------------- design


def test_a_design_for_colours(tmp_path: Path) -> None:
    made = verbs.design(OpticsDocument.from_json({**VALUES, "design": DESIGN}), tmp_path / "out")
    assert made.model is not None
    assert made.model.localizer.scales.channels == 2
    section = read_psf(tmp_path / "out" / "psf.h5").section
    assert isinstance(section, ColoursSettings)
    assert section.optics is not None
    assert section.optics.mask is not None
    assert section.optics.mask.kind == "zernike"
    quick = Experiment.from_file(tmp_path / "out" / "experiment.json")
    at, z, channel = torch.zeros(2, 2), torch.tensor([-150.0, 100.0]), torch.tensor([1, 0])
    drawn, whole = (one.build((110.0, 110.0)).in_channels(channel, at, z).detach() for one in (quick.psf, section))
    assert (drawn - whole).abs().max() < 0.03 * whole.max()
    plan = verbs.plan(tmp_path / "out" / "psf.h5", photons=3000, background=20, densities=[0.1], scenes=2)
    assert [one.name for one in plan.expectations] == ["psf.h5, channel 0", "psf.h5, channel 1"]
    assert plan.expectations[0].alone_nm[0] < plan.expectations[1].alone_nm[0]  # sharper at the shorter wavelength


def test_a_bound_of_positions_does_not_design_for_colours() -> None:
    with pytest.raises(
        DocumentError, match="'fisher' is the bound of a position and says nothing of telling colours apart"
    ) as error:
        OpticsDocument.from_json({**VALUES, "design": {"objective": "fisher"}})
    assert "\n" not in str(error.value)
    flat = {"kind": "colours", "channel": [{"kind": "gaussian", "width_nm": 120.0}] * 2}
    with pytest.raises(DocumentError, match=r"'psf' of kind 'colours' has no pupil to put a mask into"):
        OpticsDocument.from_json({**VALUES, "psf": flat, "design": DESIGN})
