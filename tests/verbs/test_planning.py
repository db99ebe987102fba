"""What a plan says of PSFs, on a page and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from denseloc.cli import main
from denseloc.errors import CalibrationError, DocumentError
from denseloc.fit import DEPTHS_NM, CrowdBounds, DepthBounds, Expectation
from denseloc.formats.psf_files import read_psf, write_psf
from denseloc.optics import AstigmaticSettings, GaussianSettings, SplineSettings
from denseloc.preparation import parse_camera
from denseloc.verbs import plan

PIXEL_NM = (100.0, 100.0)
QUICK = {"densities": (0.3, 4.0), "scenes": 20}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("psfs")
    flat, deep = folder / "flat.json", folder / "deep.json"
    flat.write_text(GaussianSettings(width_nm=130, roi_px=11).model_dump_json(exclude_none=True))
    section = AstigmaticSettings(width_nm=130, focus_a_nm=-250, focus_b_nm=250, depth_nm=400, roi_px=13)
    deep.write_text(section.model_dump_json(exclude_none=True))
    return flat, deep


def test_bounds_grow_with_noise_and_density(files: tuple[Path, Path]) -> None:
    clean = plan(files, pixel_size_nm=100, z_range_nm=(-400, 400), **QUICK)
    noisy = plan(files[0], pixel_size_nm=100, camera=parse_camera("offset=100,electrons_per_count=45,em_gain=300"), **QUICK)
    flat, deep = clean.expectations
    assert flat.over_depth.z_nm is None
    assert flat.alone_nm[1] is None
    assert flat.alone_nm[0] < deep.alone_nm[0] < deep.alone_nm[1]
    for one in (flat, deep):
        sparse, dense = one.in_crowd
        assert sparse.found > 0.9 > dense.found > 0.3
        assert dense.lateral_nm > sparse.lateral_nm > 0.9 * one.alone_nm[0]
        assert 0.3 < one.served_per_um2 < 4
    assert noisy.light.excess == pytest.approx(2.0, abs=0.3)
    assert noisy.expectations[0].alone_nm[0] > 1.3 * flat.alone_nm[0]


def test_depths_that_no_one_says_are_those_that_fits_search(files: tuple[Path, Path]) -> None:
    (deep,) = plan(files[1], pixel_size_nm=100, densities=(0.3,), scenes=2).expectations
    assert deep.z_range_nm == DEPTHS_NM
    assert tuple(deep.over_depth.depths_nm[[0, -1]]) == DEPTHS_NM


@pytest.mark.parametrize(("found", "served"), [((0.95, 0.9), np.inf), ((0.7, 0.2), 0.0), ((0.9, 0.7), np.sqrt(10))])
def test_the_density_that_is_served_is_interpolated(found: tuple[float, float], served: float) -> None:
    crowds = tuple(CrowdBounds(density, share, 10.0, None) for density, share in zip((1.0, 10.0), found, strict=True))
    depth = DepthBounds(np.zeros(1), np.ones(1), np.ones(1), None)
    psf = GaussianSettings(width_nm=130).build(PIXEL_NM)
    assert Expectation("a", psf, (0.0, 0.0), depth, crowds).served_per_um2 == pytest.approx(served)


def test_page_and_terminal(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", *map(str, files), "--pixel-size-nm", "100", "--density", "0.3,4", "--scenes", "20", "-q"]
    assert main([*arguments, "-o", str(tmp_path / "plan.html")]) == 0
    page = (tmp_path / "plan.html").read_text()
    assert page.count("<img ") == 5
    assert "deep.json lets the largest share be found" in page or "flat.json lets the largest share be found" in page
    assert "<script" not in page
    assert "http:" not in page
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["psf"] for one in told["expectations"]] == ["flat.json", "deep.json"]
    assert main(arguments[:-1]) == 0
    assert "told apart" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photons": 0}, "photons 0; expected"),
        ({"background": -1}, "background -1; expected"),
        ({"densities": ()}, "densities"),
        ({"densities": (1, 1000)}, "densities"),
        ({"z_range_nm": (500, -500)}, "from low to high"),
        ({"psfs": []}, "0 PSFs, expected 1 to 6"),
    ],
)
def test_impossible_numbers_are_one_line(files: tuple[Path, Path], tmp_path: Path, change: dict, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as error:
        plan(**{"psfs": files[0], "out": tmp_path / "p.html", "pixel_size_nm": 100, **change})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_experiment_that_names_its_psf_is_planned(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "experiment.toml"
    write_psf(tmp_path / "psf.h5", read_psf(files[1]).section, {"z_range_nm": (-400.0, 400.0), "pixel_size_nm": 90.0})
    document.write_text('pixel_size_nm = 100\npsf = { file = "psf.h5" }\n')
    named = plan(document, scenes=5, densities=(0.3,)).expectations[0]
    assert named.psf.pixel_size_nm == PIXEL_NM
    given = plan(files[1], scenes=5, densities=(0.3,), pixel_size_nm=100).expectations[0]
    assert named.alone_nm == pytest.approx(given.alone_nm)
    assert main(["plan", str(document), "--density", "0.3", "--scenes", "20"]) == 0
    assert "told apart" in capsys.readouterr().out


def test_a_pixel_size_is_needed(files: tuple[Path, Path]) -> None:
    with pytest.raises(CalibrationError, match="does not say its pixel size; give it"):
        plan(files[0])


def test_psfs_are_compared_where_all_of_them_are_known(tmp_path: Path) -> None:
    """Depths at which a spline ends would count as not told apart."""
    paths = []
    for name, low in (("a", -400.0), ("b", -300.0)):
        samples = np.stack(
            [
                AstigmaticSettings(width_nm=130, focus_a_nm=-250, focus_b_nm=250, depth_nm=400, roi_px=13)
                .build(PIXEL_NM)(torch.zeros(1, 2), torch.tensor([float(z)]))
                .detach()[0, 0]
                .numpy()
                for z in np.arange(low, 401, 100)
            ]
        )
        section = SplineSettings.from_samples(samples[None], low, 100.0, 1, 11, pixel_size_nm=100.0)
        write_psf(tmp_path / f"{name}.h5", section, {"pixel_size_nm": 100.0})
        paths.append(tmp_path / f"{name}.h5")
    found = plan(paths, **QUICK)
    assert [one.z_range_nm for one in found.expectations] == [(-300.0, 400.0)] * 2
    with pytest.raises(
        DocumentError, match=r"b\.h5 is known from -300 to 400 nm, asked for -400 to 400 nm; give depths inside: --z-nm -300,400"
    ):
        plan(paths, z_range_nm=(-400, 400), **QUICK)
