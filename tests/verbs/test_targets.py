"""Verbs look at their targets before they work, and read settings of tables that they did not write with care."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denseloc.data import Image, Localizations, Movie, Provenance, movie_from_array
from denseloc.errors import OutputError, TableError
from denseloc.report import write_report
from denseloc.verbs import picture, render, report, reporting, simulate, simulation
from denseloc.verbs.picture import check_picture
from denseloc.verbs.reporting import check_report
from denseloc.verbs.samples import Exposure, reopen


def fails(*_: object, **__: object) -> None:
    pytest.fail("the work began")


@pytest.fixture
def table() -> Localizations:
    rng = np.random.default_rng(0)
    known = Provenance(pixel_size_nm=(100.0, 100.0), shape_px=(12, 10), n_frames=4, movie="m.tif")
    return Localizations({"frame": np.array([0, 1, 3]), "x_nm": rng.uniform(0, 900, 3), "y_nm": rng.uniform(0, 900, 3)}, known)


@pytest.fixture
def movie() -> Movie:
    return movie_from_array(np.random.default_rng(0).poisson(100, (4, 12, 10)).astype(np.uint16), "m.tif")


def bad_targets(folder: Path, suffix: str) -> list[tuple[Path, str]]:
    (folder / f"folder{suffix}").mkdir()
    (folder / "file").write_text("")
    return [
        (folder / f"folder{suffix}", "this is a folder"),
        (folder / "none" / f"a{suffix}", "does not exist"),
        (folder / "file" / f"a{suffix}", "is a file, expected a folder"),
        (folder / "a.jpg", r"a\.jpg"),
    ]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(picture, "iter_table", fails)
    monkeypatch.setattr(picture, "draw", fails)
    for target, words in bad_targets(tmp_path, suffix):
        with pytest.raises(OutputError, match=words):
            render(tmp_path / "t.csv", target)
        with pytest.raises(OutputError, match=words):
            check_picture(target)
    check_picture(tmp_path / f"a{suffix}")
    assert not (tmp_path / f"a{suffix}").exists()


def test_a_colour_map(tmp_path: Path, table: Localizations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "draw", fails)
    with pytest.raises(OutputError, match="colour map 'hto' is not known"):
        render(table, tmp_path / "a.png", colormap="hto")


def test_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "opened", fails)
    for target, words in bad_targets(tmp_path, ".html"):
        with pytest.raises(OutputError, match=words):
            report(tmp_path / "t.csv", target)
        with pytest.raises(OutputError, match=words):
            check_report(target)
    check_report(tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_simulation(tmp_path: Path, tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from denseloc.experiment import Experiment

    monkeypatch.setattr(simulation, "_microscope", fails)
    square = Experiment.from_json(tiny_document)
    oblong = Experiment.from_json({**tiny_document, "pixel_size_nm": [100.0, 110.0]})
    size: dict[str, Any] = {"n_frames": 3, "shape_px": (16, 16)}
    with pytest.raises(TableError, match="square ones only"):
        simulate(oblong, tmp_path / "m.tif", truth=tmp_path / "t.hdf5", **size)
    (tmp_path / "t.yaml").write_text("colour: blue\n")
    with pytest.raises(TableError, match="belongs to something else"):
        simulate(square, tmp_path / "m.tif", truth=tmp_path / "t.hdf5", **size)
    for target, words in bad_targets(tmp_path, ".tif"):
        with pytest.raises(OutputError, match=words):
            simulate(square, target, truth=tmp_path / "t.parquet", **size)
    with pytest.raises(OutputError, match="does not exist"):
        simulate(square, tmp_path / "m.tif", truth=tmp_path / "none" / "t.parquet", **size)
    assert not (tmp_path / "m.tif").exists()


def test_a_truth_for_picasso(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    from denseloc.experiment import Experiment
    from denseloc.formats import read_table

    made = simulate(
        Experiment.from_json(tiny_document), tmp_path / "m.tif", truth=tmp_path / "t.HDF5", n_frames=5, shape_px=(16, 16)
    )
    assert len(read_table(made.truth)) <= made.emitters  # Picasso keeps what lies between the outermost pixel centres
    assert read_table(made.truth).provenance.shape_px == (16, 16)


# ---- settings of other programs


@pytest.mark.parametrize(
    "settings", [{"planes": "two"}, {"planes": [1, 2]}, {"frames": 3}, {"frames": ["a", "b"]}, {"roi_px": "all"}]
)
def test_settings_of_another_type_are_as_unknown(table: Localizations, movie: Movie, settings: dict[str, Any]) -> None:
    found, note = reopen(table.with_provenance(settings=settings), None, movie)
    assert note == ""
    assert found is not None
    assert found.frames == (0, 4)


@pytest.mark.parametrize(
    "conditions", [[1], "dark", {"background": "dark"}, {"background": None}, {"brightness": 3.0}, {"background": [1.0]}]
)
def test_an_exposure_of_another_type_is_none(table: Localizations, tiny_document: dict[str, Any], conditions: Any) -> None:
    settings = {"camera": {"offset_counts": 100, "counts_per_photon": 2}, "conditions": {"background": 3.0}}
    known = table.with_provenance(experiment=tiny_document, settings=settings)
    assert Exposure.of(known) is not None
    assert Exposure.of(known.with_provenance(settings={**settings, "conditions": conditions})) is None


def test_a_report_of_settings_of_another_type(table: Localizations, movie: Movie, tmp_path: Path) -> None:
    odd = table.with_provenance(settings={"warnings": 3, "assumed": "text", "threshold": "high", "denseloc": [1]})
    found = report(odd, tmp_path / "a.html", movie=movie)
    assert found.page.exists()


def test_names_that_are_no_text_are_written(table: Localizations, movie: Movie, tmp_path: Path) -> None:
    name = b"m\xff.tif".decode("utf-8", "surrogateescape")
    odd = table.with_provenance(movie=name)
    image = Image(np.ones((8, 8), np.float32), (100.0, 100.0), (0.0, 0.0))
    write_report(
        tmp_path / "a.html",
        table=odd,
        image=image,
        movie=replace(movie, name=name),
        sample=[],
        warnings=[],
        run={"movie": name},
        title=f"Localizations of {name}",
    )
    assert "m\\udcff.tif" in (tmp_path / "a.html").read_text(encoding="utf-8")
