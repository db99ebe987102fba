"""Files that have the form of a PSF but cannot be one are refused: other units, damaged records, impossible light."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from denseloc.errors import CalibrationError, DocumentError
from denseloc.formats.psf_files import read_psf, write_psf
from denseloc.optics import AstigmaticSettings
from denseloc.optics.spline import SplineSettings

ASTIGMATIC = AstigmaticSettings(width_nm=140, focus_a_nm=-220, focus_b_nm=240, depth_nm=370, roi_px=15)


@pytest.fixture(scope="module")
def spline(tmp_path_factory) -> SplineSettings:
    path = tmp_path_factory.mktemp("psf") / "psf.mat"
    write_psf(path, ASTIGMATIC, {"z_range_nm": (-400, 400)}, pixel_size_nm=100)
    return read_psf(path).section


def refused(path, words, **how):
    with pytest.raises((CalibrationError, DocumentError), match=words) as error:
        read_psf(path, **how)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coefficients": 0.0}, "brightest image holds 0 times"),
        ({"coefficients": -1.0}, "brightest image holds -"),
        ({"coefficients": 1e6}, "expected about 1"),
        ({"z_step_nm": 1e6}, "depths from .* expected a range of"),
        ({"z_step_nm": 0.01}, "give depths and steps in nm"),
        ({"z_min_nm": 1e9}, "give depths and steps in nm"),
    ],
)
def test_impossible_splines(tmp_path, spline, change, words):
    if "coefficients" in change:
        change = {"coefficients": spline.coefficients * np.float32(change["coefficients"])}
    write_psf(tmp_path / "psf.h5", spline.model_copy(update=change), {"pixel_size_nm": (100, 100)})
    refused(tmp_path / "psf.h5", words)


def test_noise_is_no_psf(tmp_path, spline):
    noise = np.random.default_rng(0).normal(size=spline.coefficients.shape).astype(np.float32)
    noise += (1 - noise.sum((2, 3)).max()) / noise[0, 0].size
    write_psf(tmp_path / "psf.h5", spline.model_copy(update={"coefficients": noise}), {})
    refused(tmp_path / "psf.h5", "light below 0|brightest image")


@pytest.mark.parametrize(
    ("key", "value"),
    [("z_range_nm", [400, -400]), ("z_range_nm", "a"), ("z_range_nm", [1]), ("z_range_nm", [None, 3]), ("pixel_size_nm", "x"),
     ("pixel_size_nm", [1, 2, 3]), ("pixel_size_nm", [0.1, 0.1])],
)  # fmt: skip
def test_damaged_records(tmp_path, key, value):
    write_psf(tmp_path / "psf.h5", ASTIGMATIC, {"z_range_nm": (-400, 400), "pixel_size_nm": (100, 100)})
    with h5py.File(tmp_path / "psf.h5", "r+") as file:
        record = {**json.loads(file["record"][0]), key: value}
        del file["record"]
        file.create_dataset("record", data=np.array(json.dumps(record).encode())[None])
    refused(tmp_path / "psf.h5", f"{key} of the record")


@pytest.mark.parametrize("width", [0.13, 130_000.0])
def test_a_width_in_another_unit(tmp_path, width):
    (tmp_path / "psf.json").write_text(json.dumps({"kind": "gaussian", "width_nm": width, "roi_px": 11}))
    refused(tmp_path / "psf.json", "give its lengths in nm", pixel_size_nm=100)


def test_amplitudes_in_another_unit(tmp_path):
    section = {"kind": "pupil", "wavelength_nm": 670, "numerical_aperture": 1.4, "zernike_nm": [1e6] * 10}
    (tmp_path / "psf.json").write_text(json.dumps(section))
    refused(tmp_path / "psf.json", "expected at most 10 wavelengths", pixel_size_nm=100)


def test_curves_in_another_unit(tmp_path):
    z = np.linspace(-0.5, 0.5, 21)
    rows = "".join(f"{v:g},{0.14 + 0.1 * (v + 0.2) ** 2:g},{0.14 + 0.1 * (v - 0.2) ** 2:g}\n" for v in z)
    (tmp_path / "curves.csv").write_text("z [nm],sigma_x [nm],sigma_y [nm]\n" + rows)
    refused(tmp_path / "curves.csv", "give depths and steps in nm")
    (tmp_path / "curves.csv").write_text("z [um],sigma_x [um],sigma_y [um]\n" + rows)
    assert read_psf(tmp_path / "curves.csv").section.kind == "astigmatic"


def test_numbers_that_are_too_large(tmp_path):
    import yaml

    write_psf(tmp_path / "psf.yaml", ASTIGMATIC, {"z_range_nm": (-400, 400)}, pixel_size_nm=100)
    document = yaml.safe_load((tmp_path / "psf.yaml").read_text())
    for key, value in (("Number of frames", 10**400), ("X Coefficients", [10**400] * 7), ("Step size in nm", 0.01)):
        (tmp_path / "other.yaml").write_text(yaml.safe_dump({**document, key: value}))
        refused(tmp_path / "other.yaml", "expected")


def test_a_folder(tmp_path):
    refused(tmp_path, "this is a folder")
