"""PSF files with sections and curves: our own, Picasso's, tables of widths, sections."""

from __future__ import annotations

import json
from types import MappingProxyType

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import yaml

from denseloc.documents import resolve_paths
from denseloc.errors import CalibrationError, DocumentError, OutputError
from denseloc.formats import psf_files
from denseloc.formats.psf_files import psf_suffixes, read_psf, write_psf
from denseloc.optics import (
    AstigmaticSettings,
    DoubleHelixSettings,
    GaussianSettings,
    MultiplaneSettings,
    PupilSettings,
    ResidualMaps,
    SplineSettings,
)
from denseloc.optics.masks import ArrayMaskSettings

PIXEL_NM = (110.0, 100.0)
ASTIGMATIC = AstigmaticSettings(
    width_nm=130.0, width_ratio=1.1, focus_a_nm=250.0, focus_b_nm=-220.0, depth_nm=380.0, cubic=0.05, quartic=0.1
)
RECORD = MappingProxyType({"z_range_nm": (-600.0, 600.0), "pixel_size_nm": PIXEL_NM})


def with_maps(section):
    values = np.random.default_rng(1).normal(0, 1e-3, (4, 2 * section.roi_px + 1, 2 * section.roi_px + 1))
    return section.model_copy(update={"residual_maps": ResidualMaps(values=values, z_min_nm=-300.0, nodes_per_px=2)})


def refused(path, words, **options):
    with pytest.raises(CalibrationError, match=words) as error:
        read_psf(path, **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


def same(one, other):
    return one.model_dump_json() == other.model_dump_json()


# --------------------------------------------------------------------------------------------------------------------------- own


@pytest.mark.parametrize(
    "section",
    [
        GaussianSettings(width_nm=120.0),
        with_maps(ASTIGMATIC),
        DoubleHelixSettings(width_nm=140.0, separation_nm=700.0, turn_deg_per_um=55.0),
        MultiplaneSettings(width_nm=130.0, plane_focus_nm=(-250.0, 250.0), depth_nm=350.0, shift_nm=((0, 0), (30.0, -20.0))),
        PupilSettings(
            wavelength_nm=600.0,
            numerical_aperture=1.4,
            zernike_nm=(0.0, 1.0, 2.0),
            mask=ArrayMaskSettings(values=np.random.default_rng(2).normal(size=(40, 40))),
            phase=np.random.default_rng(3).normal(size=(16, 16)),
        ),
    ],
    ids=lambda section: section.kind,
)
def test_our_own_file_brings_back_section_and_record(tmp_path, section):
    record = {"chi2": np.float32(1.25), "beads": [3, 5], "wobble_nm": np.arange(6.0).reshape(2, 3), "lost": float("nan"), "µ": "ü"}
    write_psf(tmp_path / "psf.h5", section, record, pixel_size_nm=PIXEL_NM)
    found, again = read_psf(tmp_path / "psf.h5")
    assert same(found, section)
    assert again == {
        "chi2": 1.25,
        "beads": [3, 5],
        "wobble_nm": [[0, 1, 2], [3, 4, 5]],
        "lost": None,
        "µ": "ü",
        "pixel_size_nm": list(PIXEL_NM),
    }
    assert [p.name for p in tmp_path.iterdir()] == ["psf.h5"]


def test_our_own_file_says_its_conventions_and_keeps_arrays_as_data_sets(tmp_path):
    section = with_maps(ASTIGMATIC)
    write_psf(tmp_path / "psf.h5", section)
    with h5py.File(tmp_path / "psf.h5") as file:
        assert file.attrs["format"] == b"denseloc psf"
        assert file.attrs["format_version"] == 1
        assert file.attrs["program"].startswith(b"denseloc ")
        conventions = json.loads(file.attrs["conventions"])
        assert conventions["origin"] == "outer corner of pixel (0, 0)"
        assert "positive z" in conventions["z_sign"]
        assert conventions["length_unit"] == "nm"
        values = json.loads(file.attrs["section"])
        assert values["residual_maps"]["values"] == {"dataset": "residual_maps.values"}
        np.testing.assert_array_equal(file["arrays/residual_maps.values"], section.residual_maps.values)
        assert file["arrays/residual_maps.values"].dtype == np.float32


def test_a_record_and_a_section_of_any_size_fit(tmp_path):
    section = MultiplaneSettings(width_nm=130.0, plane_focus_nm=tuple(np.linspace(-1e3, 1e3, 6000)), depth_nm=350.0)
    record = {"wobble_nm": np.random.default_rng(0).normal(size=(5000, 3))}
    assert len(section.model_dump_json()) > 65536
    write_psf(tmp_path / "psf.h5", section, record)
    found, again = read_psf(tmp_path / "psf.h5")
    assert same(found, section)
    np.testing.assert_array_equal(again["wobble_nm"], record["wobble_nm"])


def test_a_newer_a_damaged_and_a_truncated_file_are_refused(tmp_path):
    path = tmp_path / "psf.h5"
    write_psf(path, with_maps(ASTIGMATIC), {"chi2": 1.0})
    whole = path.read_bytes()
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 2
    refused(path, "PSF format 2, this denseloc reads up to 1; update denseloc")
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["arrays"]
    refused(path, "damaged .*the array 'residual_maps.values' is missing")
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        file.attrs["section"] = '{"kind": "astigmatic"'
    refused(path, "the HDF5 file is damaged")
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        file.attrs["section"] = '{"kind": "helical"}'
    refused(path, "unknown PSF 'helical'")
    for part in (0, 7, 200, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:part])
        with pytest.raises(CalibrationError) as error:
            read_psf(path)
        assert "\n" not in str(error.value)


def test_flipped_bytes_never_end_in_a_traceback(tmp_path):
    path = tmp_path / "psf.h5"
    write_psf(path, with_maps(ASTIGMATIC), {"chi2": 1.0})
    whole = path.read_bytes()
    generator = np.random.default_rng(4)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in generator.integers(0, len(whole), 40):
            damaged[at] = generator.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_psf(path)
        except (CalibrationError, DocumentError) as error:
            assert "\n" not in str(error)  # noqa: PT017 (some damage lies where nothing is read)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "psf.h5"
    write_psf(path, ASTIGMATIC)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_psf(path, with_maps(ASTIGMATIC), {1: 2, "bad": {object: (lambda: 0)}, **{"x": Broken()}})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["psf.h5"]
    with pytest.raises(OutputError, match="does not exist"):
        write_psf(tmp_path / "no" / "psf.h5", ASTIGMATIC)


class Broken:
    def __str__(self):
        raise TypeError("not to be said")


# ------------------------------------------------------------------------------------------------------------------------ Picasso


def picasso(path, x_px, y_px, **change):
    """Write a calibration as Picasso does: polynomials in z of the stage, in nm, of widths in pixels."""
    document = {
        "X Coefficients": [float(c) for c in x_px],
        "Y Coefficients": [float(c) for c in y_px],
        "Number of frames": 101,
        "Step size in nm": 10.0,
        "Magnification factor": 0.8,
        **change,
    }
    path.write_text(yaml.dump({key: value for key, value in document.items() if value is not None}, default_flow_style=False))
    return path


def widths(section, z, pixel_nm=PIXEL_NM):
    """Read the widths along x and y off the image of the PSF itself, in nm, so that the order of the axes is the images' own."""
    with torch.no_grad():
        image = (
            section.model_copy(update={"roi_px": 61}).build(pixel_nm)(torch.zeros(1, 2), torch.tensor([float(z)]))[0, 0].double()
        )
    at = torch.arange(61.0, dtype=torch.float64) - 30
    spread = [((image.sum(axis) * at**2).sum() / image.sum() - 1 / 12).sqrt().item() for axis in (0, 1)]
    return spread[0] * pixel_nm[1], spread[1] * pixel_nm[0]


def test_picasso_polynomials_mean_pixels_highest_power_first_and_stage_depths(tmp_path):
    x_px = [0, 0, 0, 0, 4e-6, -0.0016, 1.5]  # narrowest at +200 nm of the stage
    y_px = [0, 0, 0, 0, 4e-6, 0.0016, 1.4]
    section, record = read_psf(picasso(tmp_path / "c.yaml", x_px, y_px), pixel_size_nm=PIXEL_NM)
    assert record["z_range_nm"] == [-400.0, 400.0]  # 101 planes of 10 nm, times 0.8
    assert record["magnification_factor"] == 0.8
    assert record["pixel_size_nm"] == list(PIXEL_NM)
    assert any("magnification factor 0.8" in note for note in record["notes"])
    assert record["largest_deviation"] < 0.02
    for z in (-350.0, -100.0, 0.0, 160.0, 390.0):
        stage = z / 0.8
        x_nm, y_nm = widths(section, z)
        assert x_nm == pytest.approx(100 * np.polyval(x_px, stage), rel=0.02)  # columns count in the pixels' width
        assert y_nm == pytest.approx(110 * np.polyval(y_px, stage), rel=0.02)
    assert widths(section, 160.0)[0] < widths(section, -160.0)[0]  # the sign of z


def test_a_curve_that_the_formula_cannot_hold_says_so(tmp_path):
    wavy = [0, 0, 4 / 500**4, 0, -3 / 500**2, 0, 2.0]  # a dip on either side
    _, record = read_psf(picasso(tmp_path / "c.yaml", wavy, [0, 0, 0, 0, 4e-6, 0, 1.4]), pixel_size_nm=100.0)
    assert record["largest_deviation"] > 0.05
    assert any("% of the width (at z =" in note for note in record["notes"])


def test_picasso_round_trip(tmp_path):
    write_psf(tmp_path / "c.yaml", ASTIGMATIC, {**RECORD, "magnification_factor": 0.75})
    section, record = read_psf(tmp_path / "c.yaml", pixel_size_nm=PIXEL_NM)
    assert record["z_range_nm"] == pytest.approx([-600.0, 600.0])
    assert record["largest_deviation"] < 0.01
    for z in (-550.0, -200.0, 0.0, 300.0, 580.0):
        assert widths(section, z) == pytest.approx(widths(ASTIGMATIC, z), rel=0.01)
    document = yaml.safe_load((tmp_path / "c.yaml").read_text())
    assert "Pixelsize" not in document  # they are not square
    assert document["Magnification factor"] == 0.75
    assert (document["Number of frames"] - 1) * document["Step size in nm"] == pytest.approx(1600.0)
    assert np.polyval(document["X Coefficients"], -200 / 0.75) * 100 == pytest.approx(widths(ASTIGMATIC, -200.0)[0], rel=0.01)


def test_a_psf_turned_by_90_degrees_has_its_first_axis_along_y(tmp_path):
    turned = ASTIGMATIC.model_copy(update={"angle_deg": 90.0})
    write_psf(tmp_path / "c.yaml", turned, {"z_range_nm": (-500, 500)}, pixel_size_nm=100.0)
    section, _ = read_psf(tmp_path / "c.yaml")  # square pixels: their size is in the file
    assert widths(section, 200.0, (100.0, 100.0)) == pytest.approx(widths(turned, 200.0, (100.0, 100.0)), rel=0.01)


def test_what_picasso_cannot_hold_is_not_written(tmp_path):
    path = tmp_path / "c.yaml"
    for section, record, words in (
        (ASTIGMATIC.model_copy(update={"angle_deg": 30.0}), RECORD, "turned by 30 degrees"),
        (with_maps(ASTIGMATIC), RECORD, "with residual maps has no curves"),
        (DoubleHelixSettings(width_nm=140.0, separation_nm=700.0, turn_deg_per_um=55.0), RECORD, "'double_helix' has no curves"),
        (ASTIGMATIC, {"pixel_size_nm": 100.0}, "put z_range_nm"),
        (ASTIGMATIC, {"z_range_nm": (-600, 600)}, "the pixel size is not known"),
        (ASTIGMATIC, {**RECORD, "z_range_nm": (-600, 500)}, "ranges about 0 only"),
        (ASTIGMATIC, {**RECORD, "z_range_nm": (600, -600)}, "expected low below high"),
        (ASTIGMATIC.model_copy(update={"depth_nm": 40.0}), RECORD, "misses the width by up to"),
    ):
        with pytest.raises(CalibrationError, match=words) as error:
            write_psf(path, section, record)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


GOOD = [0, 0, 0, 0, 4e-6, 0, 1.5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X Coefficients": None}, "'X Coefficients' is missing, expected 7 numbers, highest power first"),
        ({"Y Coefficients": [1.0, 2.0]}, "'Y Coefficients' is 2 long, expected 7 numbers"),
        ({"Y Coefficients": "seven"}, "'Y Coefficients' is 'seven', expected 7 numbers"),
        ({"X Coefficients": [0, 0, 0, 0, 0, "a", 1.5]}, "'X Coefficients' holds .*expected 7 numbers"),
        ({"X Coefficients": [0, 0, 0, 0, 0, float("nan"), 1.5]}, "'X Coefficients' holds .*expected 7 numbers"),
        ({"Step size in nm": None}, "'Step size in nm' is missing, expected a number"),
        ({"Number of frames": "many"}, "'Number of frames' is 'many'"),
        ({"Number of frames": 1}, "expected at least 2 frames"),
        ({"Magnification factor": 0.0}, "expected .*factor above 0"),
        ({"X Coefficients": [0, 0, 0, 0, 4e-6, 0, -1.5]}, "smallest width .*expected .*positive widths"),
    ],
)
def test_bad_picasso_calibrations_are_refused(tmp_path, change, words):
    refused(picasso(tmp_path / "c.yaml", GOOD, GOOD, **change), words, pixel_size_nm=100.0)


def test_picasso_needs_a_plausible_pixel_size(tmp_path):
    path = picasso(tmp_path / "c.yaml", GOOD, GOOD)
    refused(path, "the pixel size is not known, but Picasso gives widths in pixels; give pixel_size_nm")
    refused(path, "a pixel size of 0.1 x 0.1 nm", pixel_size_nm=0.1)
    picasso(path, GOOD, GOOD, Pixelsize=130)
    _, record = read_psf(path, pixel_size_nm=100.0)
    assert record["pixel_size_nm"] == [100.0, 100.0]
    assert any("the file says pixels of 130 x 130 nm" in note for note in record["notes"])


def test_yaml_that_grows_or_is_none_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    layers = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    path.write_text("a0: &a0 [lol]\n" + "\n".join(layers) + "\nX Coefficients: *a29\n")
    refused(path, "it has aliases")
    path.write_text("X Coefficients: " + "[" * 5000)
    refused(path, "it is nested too deeply")
    path.write_text("X Coefficients: [1, 2\nb: }")
    refused(path, "not a readable YAML")
    path.write_text("!!python/object/apply:os.system ['true']")
    refused(path, "not a readable YAML")
    path.write_bytes(b"\xff\xfe\x00X")
    refused(path, "not a readable YAML")
    path.write_text("a: 1\n" * 300_000)
    refused(path, "expected a calibration of a few lines")
    path.write_text("Width: 3\nHeight: 4\nFrames: 5\n")
    refused(path, r"holds Width, Height, Frames \(a movie or table of Picasso\), expected a 3D calibration of Picasso")


# ------------------------------------------------------------------------------------------------------------------------- curves


def curves_file(path, names="z [nm],sigma_x [nm],sigma_y [nm]", unit=1.0):
    z = np.linspace(-500, 500, 41)
    x = 140 * np.sqrt(1 + ((z - 200) / 400) ** 2)
    y = 150 * np.sqrt(1 + ((z + 200) / 400) ** 2)
    columns = {"z": z, "sigma_x": x, "sigma_y": y, "sigma1": x, "sigma2": y, "x": 0.01 * z, "y": -0.02 * z}
    table = np.stack([columns[name.split()[0].strip('"')] for name in names.split(",")], 1) * unit
    path.write_text(names + "\n" + "\n".join(",".join(f"{v:.9g}" for v in row) for row in table) + "\n")
    return path


@pytest.mark.parametrize(
    ("names", "unit"),
    [
        ("z [nm],sigma_x [nm],sigma_y [nm]", 1.0),
        ('"sigma2 [nm]","z [nm]","sigma1 [nm]"', 1.0),
        ("z [um],x [um],y [um],sigma_x [um],sigma_y [um]", 1e-3),
    ],
)
def test_curves_of_widths(tmp_path, names, unit):
    section, record = read_psf(curves_file(tmp_path / "c.csv", names, unit))
    assert section.width_nm == pytest.approx(140, rel=1e-4)
    assert section.width_nm * section.width_ratio == pytest.approx(150, rel=1e-4)
    assert (section.focus_a_nm, section.focus_b_nm) == pytest.approx((200, -200), abs=0.1)
    assert section.depth_nm == pytest.approx(400, rel=1e-3)
    assert section.angle_deg == 0.0  # the first axis lies along x
    assert record["largest_deviation"] < 1e-5
    assert record["z_range_nm"] == pytest.approx([-500, 500])
    assert record["notes"] == []
    if "x [um]" in names:
        np.testing.assert_allclose(record["wobble_nm"][0], [-500, -5, 10])


def test_the_curves_of_a_peer(shared):
    section, record = read_psf(shared / "data" / "bstore_test_files" / "calibration_curves.csv")
    assert record["largest_deviation"] < 1e-3
    assert record["z_range_nm"] == [-800.0, 790.0]
    assert len(record["wobble_nm"]) == 160
    assert widths(section, 500.0, (100.0, 100.0)) == pytest.approx((211.25, 361.25), rel=0.01)


def test_bad_curves_are_refused(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("z [nm],sigma_x [nm],sigma_y [nm]\n0,100,100\n")
    refused(path, "1 depths, .*expected at least 8 depths")
    path.write_text("z [nm],sigma_x [nm],sigma_y [nm]\n")
    refused(path, "no depths; expected at least 8 depths")
    path.write_text("z [nm],sigma_x [nm],sigma_y [nm]\n0,100,wide\n")
    refused(path, "line 2: could not convert string to float: 'wide'; expected numbers")
    path.write_text("z [nm],sigma_x [nm],sigma_y [nm]\n0,100\n")
    refused(path, "line 2 has 2 entries, expected 3")
    text = curves_file(path).read_text()
    path.write_text(text.replace("\n-500,", "\n-500,-", 1))
    refused(path, "expected .*positive widths")
    path.write_text('"frame","x [nm]","y [nm]","z [nm]","sigma1 [nm]","sigma2 [nm]"\n1,2,3,4,5,6\n')
    refused(path, "holds frame, x .*expected curves of widths")
    path.write_bytes(b"\0\1\2\n")
    refused(path, "not a text table")


# ----------------------------------------------------------------------------------------------------------------------- sections


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_sections(tmp_path, suffix):
    section = with_maps(ASTIGMATIC)
    write_psf(tmp_path / f"psf{suffix}", section, RECORD)
    found, record = read_psf(tmp_path / f"psf{suffix}")
    assert same(found, section)
    assert record == {"program": "denseloc", "notes": []}


def test_the_psf_of_a_whole_document(tmp_path):
    np.save(tmp_path / "maps.npy", with_maps(ASTIGMATIC).residual_maps.values)
    path = tmp_path / "experiment.toml"
    path.write_text(
        'name = "beads"\npixel_size_nm = [110.0, 100.0]\n[psf]\nkind = "gaussian"\nwidth_nm = 120.0\n'
        '[psf.residual_maps]\nvalues = "maps.npy"\nz_min_nm = -300\nnodes_per_px = 2\n'
    )
    section, record = read_psf(path)
    assert section.residual_maps.values.shape == (4, 31, 31)
    assert record["pixel_size_nm"] == [110.0, 100.0]


def test_files_inside_a_section_count_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    values = np.zeros((3, 15, 15), np.float32)
    values[:, 7, 7] = 1
    samples = SplineSettings.from_samples(values, -50.0, 50.0, 1, 11, pixel_size_nm=100.0)
    np.save(tmp_path / "here" / "spline.npy", samples.coefficients)
    plane = {
        "psf": {"kind": "spline", "coefficients": "spline.npy", "z_min_nm": -50, "z_step_nm": 50, "nodes_per_px": 1, "roi_px": 11}
    }
    planes = {"kind": "planes", "roi_px": 11, "plane": [{**plane, "transmission": 0.5}, {**plane, "transmission": 0.5}]}
    (tmp_path / "here" / "psf.json").write_text(json.dumps(planes))
    scipy.io.savemat(tmp_path / "here" / "mask.mat", {"wave": np.eye(8), "other": np.ones((4, 4))})
    mask = {"kind": "array", "values": "mask.mat:wave"}
    pupil = {"kind": "pupil", "wavelength_nm": 600, "numerical_aperture": 1.2, "immersion_index": 1.33, "mask": mask}
    (tmp_path / "here" / "masked.json").write_text(json.dumps({"name": "of mask.mat", "psf": pupil}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("../here/psf.json", tmp_path / "here" / "psf.json"):
        section, _ = read_psf(name)
        np.testing.assert_array_equal(section.plane[1].psf.coefficients, samples.coefficients)
    section, _ = read_psf("../here/masked.json")
    np.testing.assert_array_equal(section.mask.values, np.eye(8))
    assert resolve_paths({"name": "of mask.mat"}, tmp_path) == {"name": "of mask.mat"}


@pytest.mark.parametrize("named", ['psf = { file = "cells/psf.h5" }', 'psf = "cells/psf.h5"'])
def test_a_document_may_name_the_file_of_its_psf(tmp_path, monkeypatch, named):
    (tmp_path / "cells").mkdir()
    write_psf(tmp_path / "cells" / "psf.h5", ASTIGMATIC, RECORD)
    (tmp_path / "experiment.toml").write_text(f"pixel_size_nm = 120\n{named}\n")
    monkeypatch.chdir(tmp_path / "cells")
    section, record = read_psf("../experiment.toml")
    assert same(section, ASTIGMATIC)
    assert record["z_range_nm"] == [-600, 600]
    assert record["pixel_size_nm"] == [120, 120]


def test_a_named_file_names_no_further_one(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text('psf = { file = "experiment.toml" }')
    refused(path, "experiment.toml names a further file; name the PSF itself")
    path.write_text('psf = { file = "none.h5" }')
    with pytest.raises(CalibrationError, match=r"none.h5: no such file"):
        read_psf(path)
    path.write_text('psf = { file = "psf.h5", kind = "gaussian" }')
    with pytest.raises(DocumentError, match=r"'psf.file' stands alone, found kind beside it"):
        read_psf(path)


def test_a_psf_of_smap_beside_a_document(tmp_path, monkeypatch):
    write_psf(tmp_path / "psf.mat", ASTIGMATIC, RECORD)
    (tmp_path / "experiment.toml").write_text('psf = { file = "psf.mat" }')
    monkeypatch.chdir(tmp_path)
    assert read_psf("experiment.toml").section.kind == "spline"
    monkeypatch.chdir(tmp_path.parent)
    assert read_psf(f"{tmp_path.name}/experiment.toml").section.kind == "spline"


def test_bad_sections_are_refused(tmp_path):
    path = tmp_path / "psf.json"
    path.write_text('{"kind": "gaussian", "widht_nm": 1}')
    with pytest.raises(DocumentError, match="unknown key 'widht_nm'"):
        read_psf(path)
    path.write_text('{"kind": ')
    refused(path, "not valid JSON")
    path.write_text("[" * 100_000)
    refused(path, "not valid JSON")
    path.write_text("[1, 2]")
    refused(path, "holds list, expected keys and values")
    path.write_text('{"fps": 3}')
    refused(path, "holds fps, expected the section of a PSF")


# ----------------------------------------------------------------------------------------------------------------------- all


def test_names_and_other_programs_files(tmp_path):
    assert psf_suffixes()[0] == ".h5"
    assert set(psf_suffixes()) == {".h5", ".hdf5", ".mat", ".yaml", ".yml", ".csv", ".json", ".toml"}
    assert ".csv" not in psf_suffixes(to_write=True)
    write_psf(tmp_path / "psf.h5", ASTIGMATIC)
    refused(tmp_path / "pfs.h5", r"no such file \(did you mean 'psf.h5'\?\)")
    (tmp_path / "psf.tif").write_bytes(b"II")
    refused(tmp_path / "psf.tif", "unknown PSF format '.tif', expected one of .h5")
    (tmp_path / "empty.h5").write_bytes(b"")
    refused(tmp_path / "empty.h5", "the file is empty")
    with h5py.File(tmp_path / "t.hdf5", "w") as file:
        file["locs"] = np.zeros(3)
    refused(
        tmp_path / "t.hdf5", r"holds locs \(localizations of Picasso\), expected a PSF of denseloc .* or a calibration of uiPSF"
    )
    with pytest.raises(CalibrationError, match=r"no PSF can be written as '.csv'.*expected .h5"):
        write_psf(tmp_path / "psf.csv", ASTIGMATIC)


def test_a_format_that_says_nothing_of_other_files_will_do(tmp_path, monkeypatch):
    class Bare(psf_files.PSFFormat):
        name, suffixes, expects = "bare", (".bare",), "a bare PSF"

        def claims(self, path):
            return path.read_bytes() == b"bare"

        def read(self, path, pixel_size_nm=None):
            return psf_files.PSFFile(ASTIGMATIC, {})

    monkeypatch.setattr(psf_files, "PSF_FORMATS", (*psf_files.PSF_FORMATS, Bare()))
    (tmp_path / "a.bare").write_bytes(b"bare")
    assert read_psf(tmp_path / "a.bare").section is ASTIGMATIC
    (tmp_path / "a.bare").write_bytes(b"other")
    refused(tmp_path / "a.bare", "holds 5 bytes of something else, expected a bare PSF; give the calibration")


def test_files_of_peers_that_are_no_psf(shared):
    for name, words in (
        ("Locan/decode_dstorm_data.h5", "emitters of DECODE"),
        ("picasso/testdata_locs.hdf5", "localizations of Picasso"),
        ("picasso/testdata_locs.yaml", "a movie or table of Picasso"),
        ("storm-analysis/test_ref.hdf5", "localizations of storm-analysis"),
        ("Locan/smap_dstorm_data.mat", "localizations of SMAP"),
        ("VIPR/NFP_pos_TP_images.mat", "holds z_stack_pos, expected a 3D calibration of SMAP"),
        ("bstore_test_files/sequence-as-stack-Beads-AS-Exp_Localizations.csv", "expected curves of widths"),
    ):
        refused(shared / "data" / name, words)
