"""A method without training speaks of none, warns where it is too dense for it, and its Picasso table carries no arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denseloc.calibrate.conditions import Estimate
from denseloc.calibrate.excess import Skewness
from denseloc.formats import read_table
from denseloc.formats.psf_files import read_psf, write_psf
from denseloc.optics import AstigmaticSettings, GaussianSettings
from denseloc.pipeline import Run, localize
from denseloc.preparation import read_camera
from denseloc.verbs import report
from denseloc.verbs.inspection_contradictions import _excess_off

CAMERA = "offset=100,electrons_per_count=0.5,read_noise=1.5"
ASTIGMATIC = AstigmaticSettings(width_nm=140, focus_a_nm=-220, focus_b_nm=240, depth_nm=370, roi_px=15)


def movie(path: Path, emitters: int) -> Path:
    """Draw 12 frames of 40 x 40 px of 100 nm."""
    from bead_stacks import bead_counts

    rng = np.random.default_rng(1)
    psf = GaussianSettings(width_nm=130, roi_px=15)
    frames = [
        bead_counts(psf, z_nm=np.zeros(1), places=rng.uniform(0, 4000, (emitters, 2)), photons=2000.0, side=40, seed=i)
        for i in range(12)
    ]
    tifffile.imwrite(path, np.concatenate(frames).clip(0, 65535).astype(np.uint16), photometric="minisblack")
    return path


def run(folder: Path, emitters: int, suffix: str = ".parquet", **how: Any) -> Run:
    found = movie(folder / "movie.tif", emitters)
    return localize(found, folder / f"table{suffix}", method="single", pixel_size_nm=100, camera=read_camera(CAMERA), **how)


def test_a_method_without_training_speaks_of_none(tmp_path):
    sparse = run(tmp_path, 3)
    assert sparse.warnings == []
    assert sparse.assumed[0] == "method: single"
    assert not any("--model" in line for line in sparse.assumed)
    kept = read_table(sparse.table).provenance.experiment
    assert kept is not None
    assert "training" not in kept
    assert kept["name"] == "single"
    page = report(sparse.table, tmp_path / "page.html").page.read_text()
    assert "trained" not in page.replace("a method without training", "")
    assert "agree" in page or "chi2" in page  # it was compared with the frames


def test_crowds_are_warned_of(tmp_path):
    dense = run(tmp_path, 60)  # 3.75 per um^2
    assert len(dense.warnings) == 1
    assert "method 'single' serves up to" in dense.warnings[0]


def test_a_picasso_table_carries_no_arrays(tmp_path):
    psf = tmp_path / "psf.mat"
    write_psf(psf, ASTIGMATIC, {"z_range_nm": (-400, 400)}, pixel_size_nm=100)
    made = run(tmp_path, 3, ".hdf5", psf=read_psf(psf).section)
    assert made.table.with_suffix(".yaml").stat().st_size < 20_000
    table = read_table(made.table)
    assert table.provenance.experiment is not None
    assert "left out of this file" in table.provenance.experiment["psf"]["coefficients"]
    found = report(made.table, tmp_path / "page.html")
    assert any("without the arrays" in note for note in found.notes)


def test_notes_on_a_foreign_psf_are_told(tmp_path):
    psf = tmp_path / "psf.mat"
    write_psf(psf, ASTIGMATIC, {"z_range_nm": (-400, 400)}, pixel_size_nm=110)
    made = run(tmp_path, 3, psf=psf)
    assert any(line.startswith("note: psf.mat: the file says pixels of 110 x 110 nm") for line in made.assumed)


@pytest.mark.parametrize(
    ("excess", "source", "ratio", "told"),
    [
        (1.0, "assumed", 1.45, "light of molecules may look alike"),
        (1.0, "assumed", 2.2, "decides nothing"),
        (2.0, "assumed", 1.02, "may look alike"),
        (1.0, "given", 1.5, "is given"),
        (1.0, "assumed", 1.05, None),
        (2.0, "assumed", 1.45, None),
        (1.0, "measured", 1.5, None),
    ],
)
def test_a_skewness_against_the_excess_is_told(excess, source, ratio, told):
    lines = _excess_off(Skewness(ratio, 0.04, False), Estimate(excess, excess, excess, "", source))
    assert len(lines) == (told is not None)
    if told is not None:
        assert told in lines[0]


def test_the_psf_is_named_and_the_method_chosen_for_it_said(tmp_path):
    write_psf(tmp_path / "beads.h5", ASTIGMATIC, {"program": "denseloc", "z_range_nm": [-400, 400]}, pixel_size_nm=100)
    found = movie(tmp_path / "movie.tif", 3)
    camera = read_camera(CAMERA)
    chosen = localize(found, tmp_path / "a.parquet", psf=tmp_path / "beads.h5", camera=camera)
    assert chosen.assumed[0] == "method: single with a given PSF (chosen; --method multi takes crowds apart)"
    assert chosen.assumed[1] == f"PSF: {tmp_path / 'beads.h5'}"
    asked = localize(found, tmp_path / "b.parquet", method="single", psf=tmp_path / "beads.h5", camera=camera)
    assert asked.assumed[0] == "method: single with a given PSF"
    page = report(asked.table, tmp_path / "page.html").page.read_text()
    assert "beads.h5" in page
    assert "The experiment that the model was made for" not in page


@pytest.mark.parametrize(("electrons", "doubted"), [(0.5, False), (0.45, False), (1.5, True), (0.15, True)])
def test_a_camera_that_the_noise_speaks_against_is_doubted(tmp_path, electrons, doubted):
    made = localize(
        movie(tmp_path / "movie.tif", 3),
        tmp_path / "t.parquet",
        method="single",
        pixel_size_nm=100,
        camera=read_camera(f"offset=100,electrons_per_count={electrons}"),
    )
    told = [line for line in made.warnings if "the noise of the movie speaks of" in line]
    assert len(told) == doubted
    assert not doubted or "check electrons_per_count" in told[0]


def test_who_has_given_a_camera_is_not_asked_for_it():
    skewness = Skewness(1.7, 0.04, False)
    asked, given = (_excess_off(skewness, Estimate(1.0, 1.0, 1.0, "", source))[0] for source in ("assumed", "given"))
    assert asked.endswith("give the camera if you know it")
    assert given.endswith("check kind and em_gain of the camera given")
