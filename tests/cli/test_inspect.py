"""`denseloc inspect`: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import re

import numpy as np
import pytest
import tifffile

from denseloc.calibrate.conditions import estimate_conditions
from denseloc.cli import main
from denseloc.experiment import Experiment
from denseloc.formats import open_movie
from denseloc.formats.psf_files import write_psf
from denseloc.verbs import inspect, simulate

DOCUMENT = {
    "pixel_size_nm": 100,
    "psf": {"kind": "gaussian", "width_nm": 130, "roi_px": 11},
    "camera": {"kind": "scmos", "offset_counts": 100, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
    "specimen": {
        "density_per_um2": 0.3,
        "z_nm": [0, 0],
        "photons": {"kind": "gamma", "mean": 1500, "sd": 700},
        "background": {"kind": "uniform", "photons": 20},
        "blinking": {"kind": "exponential", "lifetime_frames": 2},
    },
}


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect") / "movie.tif"
    simulate(Experiment.from_json(DOCUMENT), path, n_frames=200, shape_px=(48, 48), seed=4)
    return path


def series(path, light, shape=(48, 48), frames=60):
    rng = np.random.default_rng(light)
    counts = 100 + rng.normal(0, 3, (frames, *shape)) + 2 * rng.poisson(light, (frames, *shape))
    tifffile.imwrite(path, np.round(counts).clip(0).astype(np.uint16), photometric="minisblack")
    return path


def tagged(movie, path, info):
    metadata = {"unit": "um", "axes": "TYX", "Info": info}
    tifffile.imwrite(path, tifffile.imread(movie), imagej=True, resolution=(10, 10), metadata=metadata)
    return path


TAGS = (
    "Andor-Camera = | iXon Ultra | DU897_BV |\nAndor-Gain = 300\nBaseline = 400\nElectronsPerCount = 5\nDetectorType = <script>\n"
)


@pytest.fixture(scope="module")
def written(movie, tmp_path_factory):
    """One run on a movie whose tags are wrong: the folder with document and page, and what was printed."""
    folder, told = tmp_path_factory.mktemp("written"), io.StringIO()
    with contextlib.redirect_stdout(told):
        code = main(["inspect", str(tagged(movie, folder / "t.tif", TAGS)), "-o", str(folder / "e.toml")])
    assert code == 0
    return folder, told.getvalue()


def test_document_is_written_and_can_be_trained_for(written):
    document = Experiment.from_file(written[0] / "e.toml")
    assert document.psf.width_nm == pytest.approx(130, rel=0.05)
    assert document.camera.electrons_per_count == pytest.approx(0.5, rel=0.1)
    low, high = document.specimen.density_per_um2
    assert low < 0.3 < high
    assert document.specimen.blinking.lifetime_frames == pytest.approx(2, rel=0.4)
    assert document.build_localizer() is not None
    assert "# camera gain:" in (written[0] / "e.toml").read_text()


def test_metadata_is_proposed_not_used_and_contradicted(movie, written):
    out = written[1]
    assert "em gain 300 (tag Andor-Gain)" in out
    assert "Andor iXon Ultra 897" in out
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert any("tag Baseline says offset 400 counts, the movie shows 100" in line for line in warnings)
    assert any("tag ElectronsPerCount with 5 electrons per count gives a variance of 120" in line for line in warnings)
    gain = float(re.search(r"camera gain\s+([\d.]+) counts per photon", out)[1])
    alone = estimate_conditions(open_movie(movie), pixel_size_nm=100)
    assert gain == pytest.approx(alone.counts_per_photon.value, rel=0.02)


def test_a_page_stands_beside_the_document(written):
    folder, out = written
    assert "e.report.html" in out
    page = (folder / "e.report.html").read_text(encoding="utf-8")
    for heading in ("Photon transfer", "Background over the field", "Background over time", "The darkest places"):
        assert f"<h3>{heading}</h3>" in page
    assert "<h3>Photons of a molecule in a frame</h3>" in page
    assert "<h3>How long molecules are on</h3>" in page
    assert "tag Baseline says offset 400 counts" in page
    assert "Andor iXon Ultra 897" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert page.count("<tr><th") >= 12
    assert "http" not in page.replace("http-equiv", "")


def test_page_alone_and_plain_values(command, tmp_path):
    dark = series(tmp_path / "dark.tif", 5, (24, 24), 20)
    answer = command("inspect", dark, "--pixel-size-nm", 100, "--report", tmp_path / "p.html", "--json")
    assert answer.code == 0, answer.err
    assert "Photon transfer" in (tmp_path / "p.html").read_text(encoding="utf-8")
    told = json.loads(answer.out)
    assert {fact["name"] for fact in told["facts"]} >= {"camera gain", "PSF width", "density"}
    assert all(fact["source"] for fact in told["facts"])
    assert all(fact["low"] <= fact["value"] <= (fact["high"] or np.inf) for fact in told["facts"])


def test_a_psf_says_how_deep_the_molecules_lie(command, tmp_path):
    psf = {"kind": "astigmatic", "width_nm": 130, "focus_a_nm": -200, "focus_b_nm": 200, "depth_nm": 400, "roi_px": 15}
    specimen = {**DOCUMENT["specimen"], "density_per_um2": 0.15, "z_nm": [-250, 250], "blinking": {"kind": "none"}}
    specimen["photons"] = {"kind": "uniform", "low": 5000, "high": 6000}
    document = Experiment.from_json({**DOCUMENT, "psf": psf, "specimen": specimen})
    simulate(document, tmp_path / "m.tif", n_frames=60, shape_px=(48, 48), seed=4)
    write_psf(tmp_path / "psf.json", document.psf)
    answer = command("inspect", tmp_path / "m.tif", "--psf", tmp_path / "psf.json", "-o", tmp_path / "e.toml")
    assert answer.code == 0, answer.err
    assert "z below which 5 % of the spots lie" in answer.out
    low, high = Experiment.from_file(tmp_path / "e.toml").specimen.z_nm
    assert low == pytest.approx(-270, abs=70)
    assert high == pytest.approx(270, abs=70)
    assert Experiment.from_file(tmp_path / "e.toml").psf.kind == "astigmatic"
    assert "<h3>Depth</h3>" in (tmp_path / "e.report.html").read_text(encoding="utf-8")


def test_tags_that_agree_are_not_contradicted(movie, tmp_path):
    info = "HamamatsuHam_DCAM-CameraName = C11440-22CU\nOffset = 100\nElectronsPerCount = 0.5\n"
    found = inspect(tagged(movie, tmp_path / "t.tif", info))
    assert found.contradictions == ()
    assert found.known_camera is not None
    assert any("0.5" in str(proposal) for proposal in found.proposals)


def test_a_given_camera_is_taken_and_judged(movie, command):
    answer = command("inspect", movie, "--camera", "offset=100,electrons_per_count=1.5")
    assert answer.code == 0
    assert "given; the movie itself shows" in answer.out
    assert "warning: the camera given gives a variance of 0.66" in answer.out


def test_dark_and_bright_series_make_maps(movie, command, tmp_path):
    dark, bright = series(tmp_path / "dark.tif", 0), series(tmp_path / "bright.tif", 120)
    answer = command("inspect", movie, "--dark", dark, "--bright", bright, "-o", tmp_path / "e.toml", "--no-report")
    assert answer.code == 0, answer.err
    assert not (tmp_path / "e.report.html").exists()
    assert "measured from the bright series" in answer.out
    maps = Experiment.from_file(tmp_path / "e.toml").camera.pixel_maps
    assert maps.shape == (3, 48, 48)
    np.testing.assert_allclose(maps.mean((1, 2)), [100, 0.5, 9.1], rtol=0.05)


def test_movie_without_molecules_gives_no_document(command, tmp_path):
    answer = command("inspect", series(tmp_path / "dark.tif", 5), "--pixel-size-nm", 100)
    assert answer.code == 0
    assert "no molecules were seen" in answer.out
    answer = command("inspect", tmp_path / "dark.tif", "--pixel-size-nm", 100, "-o", tmp_path / "e.toml")
    assert answer.code == 2
    assert "no document can be written" in answer.err
    assert not (tmp_path / "e.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.tif"], "no such file"),
        (["plain.tif"], "give it: --pixel-size-nm 100"),
        (["plain.tif", "--pixel-size-nm", "0.1"], "expected 5 to 2000 nm"),
        (["small.tif", "--pixel-size-nm", "100"], "expected at least 8 x 8"),
        (["plain.tif", "--pixel-size-nm", "100", "-o", "e.json"], "ends in .toml"),
        (["plain.tif", "--pixel-size-nm", "100", "-o", "none/e.toml"], "does not exist"),
        (["plain.tif", "--pixel-size-nm", "100", "--bright", "plain.tif"], "--dark FILE"),
        (["plain.tif", "--pixel-size-nm", "100", "--dark", "small.tif"], "same region"),
        (["plain.tif", "--pixel-size-nm", "100", "--dark", "short.tif"], "4 frames, expected 20 or more"),
        (["plain.tif", "--pixel-size-nm", "100", "--cameras", "c.toml"], "expected one [[camera]]"),
        (["plain.tif", "--pixel-size-nm", "100", "--camera", "gain=2"], "can mean two things"),
        (["one.tif", "--pixel-size-nm", "100"], "has 1 frame, expected 2 or more"),
        (["nan.tif", "--pixel-size-nm", "100"], "NaN or infinity"),
        (["plain.tif", "--pixel-size-nm", "100", "--dark", "nan.tif"], "NaN or infinity"),
        (["plain.tif", "--pixel-size-nm", "-100"], "100"),
        (["plain.tif", "--pixel-size-nm", "100", "--psf", "flat.json"], "tells no depth"),
        (["plain.tif", "--pixel-size-nm", "100", "--psf", "none.h5"], "no such file"),
        (["plain.tif", "--pixel-size-nm", "100", "--report", "p.txt"], "ends in .html"),
        (["plain.tif", "--pixel-size-nm", "100", "--report", "p.html", "--no-report"], "one of the two"),
    ],
)
def test_bad_input_gives_one_line(arguments, words, command, tmp_path):
    series(tmp_path / "plain.tif", 5, (16, 16), 30)
    series(tmp_path / "small.tif", 5, (6, 16), 30)
    series(tmp_path / "short.tif", 5, (16, 16), 4)
    series(tmp_path / "one.tif", 5, (16, 16), 1)
    holed = np.full((30, 16, 16), 100, np.float32)
    holed[:, 3, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", holed, photometric="minisblack")
    (tmp_path / "c.toml").write_text("camera = 3\n")
    (tmp_path / "flat.json").write_text('{"kind": "gaussian", "width_nm": 130}')
    answer = command("inspect", *(tmp_path / one if "." in one and not one[0].isdigit() else one for one in arguments))
    assert answer.code == 2, answer
    assert words in answer.err
    assert len(answer.err.splitlines()) <= 2
    assert "Traceback" not in answer.err


def test_a_psf_says_the_pixel_size_that_the_movie_does_not(command, tmp_path):
    rng = np.random.default_rng(0)
    bare = tmp_path / "bare.tif"
    tifffile.imwrite(bare, (100 + 2 * rng.poisson(20, (30, 32, 32))).astype(np.uint16), photometric="minisblack")
    psf = {"kind": "astigmatic", "width_nm": 130, "focus_a_nm": -200, "focus_b_nm": 200, "depth_nm": 350, "roi_px": 11}
    write_psf(tmp_path / "psf.h5", Experiment.from_json(DOCUMENT | {"psf": psf}).psf, {"program": "denseloc"}, pixel_size_nm=105)
    assert inspect(bare, psf=tmp_path / "psf.h5", report=False).pixel_size_nm == (105.0, 105.0)
    assert inspect(bare, psf=tmp_path / "psf.h5", pixel_size_nm=90, report=False).pixel_size_nm == (90.0, 90.0)
    answer = command("inspect", bare)
    assert answer.code == 2
    assert "does not say its pixel size" in answer.err
