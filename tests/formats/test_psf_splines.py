"""Splines of SMAP and volumes of uiPSF, against files made from a known PSF and against the meaning of the 64 coefficients."""

from __future__ import annotations

import json
from itertools import product

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from scipy.interpolate import CubicSpline

from denseloc.errors import CalibrationError
from denseloc.formats.psf_files import read_psf, write_psf
from denseloc.kernels.gaussian_pixel.naive import aligned
from denseloc.optics import AstigmaticSettings, FieldSettings, MultiplaneSettings, PlanesSettings

PIXEL_NM = (110.0, 100.0)
NODES, PLANES, DZ, Z0 = 17, 25, 40.0, 10.0
"""Z0 is off the middle, so that a wrong origin of z shows."""


def lopsided(dx_px, dy_px, z_nm):
    """Draw an astigmatic Gaussian with a weaker one to its right and above, so that every mirrored or exchanged axis shows."""
    dx, dy, z = (torch.as_tensor(v, dtype=torch.float64).reshape(-1) for v in (dx_px, dy_px, z_nm))
    x_px = 1.3 * torch.sqrt(1 + ((z - 200) / 350) ** 2)
    y_px = 1.2 * torch.sqrt(1 + ((z + 150) / 350) ** 2)
    return 0.8 * aligned(dx, dy, x_px, y_px, NODES) + 0.2 * aligned(dx + 1.6, dy - 1.1, 0.8 * x_px, 0.8 * y_px, NODES)


def stack():
    """Give the known PSF as SMAP has it: (rows, columns, planes), one node a pixel, z falling from plane to plane."""
    z = -(np.arange(PLANES) - Z0) * DZ
    return lopsided(np.zeros(PLANES), np.zeros(PLANES), z).numpy().transpose(1, 2, 0)


def coefficients_of(values):
    """Interpolate (n1, n2, n3) by cubic splines without kinks at the second node, and give (n1 - 1, n2 - 1, n3 - 1, 64).

    Entry 16 c + 4 b + a belongs to d3^c d2^b d1^a.
    """
    cells = values
    for _ in range(3):  # each turn takes the first axis apart and puts its cells and powers last
        spline = CubicSpline(np.arange(len(cells)), cells)
        cells = np.moveaxis(spline.c[::-1], (1, 0), (-2, -1))
    n = [side - 1 for side in values.shape]
    by_power = cells.transpose(0, 2, 4, 5, 3, 1)
    assert by_power.shape == (*n, 4, 4, 4)
    return by_power.reshape(*n, 64)


def evaluate(coefficients, at1, at2, at3):
    """Read a spline from the meaning of its coefficients, one place at a time."""
    place = (at1, at2, at3)
    cell = [min(max(int(np.floor(p)), 0), n - 1) for p, n in zip(place, coefficients.shape, strict=False)]
    d1, d2, d3 = (p - k for p, k in zip(place, cell, strict=True))
    total = 0.0
    for c, b, a in product(range(4), repeat=3):
        total += coefficients[(*cell, 16 * c + 4 * b + a)] * d3**c * d2**b * d1**a
    return total


COEFFICIENTS = coefficients_of(stack())


def drawn(section, dx, dy, z):
    with torch.no_grad():
        return section.build(PIXEL_NM)(torch.tensor([[dx, dy]]), torch.tensor([float(z)]))[0].double().numpy()


def agree_with_coefficients(section, coefficients, factor, *, x0=NODES // 2 + 1, z0=Z0, dz=DZ, plane=0, atol=2e-6):
    """Compare what is drawn with the coefficients at many places: index = pixel - emitter in x and y, z0 - z / dz in z."""
    half = section.roi_px // 2
    for dx, dy, z in ((0.0, 0.0, 0.0), (0.31, -0.44, 137.0), (-0.5, 0.5, -420.0), (0.12, 0.27, 333.0)):
        image = drawn(section, dx, dy, z)[plane]
        for r, c in ((half, half), (half - 2, half + 1), (half + 3, half - 1), (half + 1, half + 2), (1, 2)):
            expected = evaluate(coefficients, x0 - 1 + (r - half) - dy, x0 - 1 + (c - half) - dx, z0 - z / dz)
            assert image[r, c] == pytest.approx(expected / factor, abs=atol), (dx, dy, z, r, c)


def largest_light(coefficients):
    """Sum the values at the nodes of each plane; give the largest."""
    n1, n2, n3 = (n + 1 for n in coefficients.shape[:3])
    return max(sum(evaluate(coefficients, i, j, k) for i in range(n1) for j in range(n2)) for k in range(0, n3, 2))


def cell_of(*arrays):
    cell = np.empty((1, len(arrays)), dtype=object)
    for index, array in enumerate(arrays):
        cell[0, index] = array
    return cell


def cspline(coefficients=COEFFICIENTS, **change):
    fields = {"coeff": cell_of(coefficients.astype(np.float32)), "dz": DZ, "z0": Z0, "x0": float(NODES // 2 + 1), **change}
    return {name: value for name, value in fields.items() if value is not None}


def tile(**change):
    return {"cspline": cspline(**change), "gauss_zfit": np.zeros((1, 8)), "EMon": 1.0, "PSF": cell_of(stack())}


PARAMETERS = {
    "dz": DZ,
    "modality": "astig",
    "cam_pixelsize_um": np.array([[0.1, 0.11]]),
    "emmirror": 0.0,
    "filelist": cell_of("a.tif"),
}


def save_73(path, variables):
    """Write v7.3: transposed arrays, text as character codes, cells and struct arrays as references, a user block of 512 bytes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        store = file.create_group("#refs#")

        def refer(value):
            name = f"v{len(store)}"
            put(store, name, value)
            return store[name].ref

        def references(parent, name, items, shape):
            data = np.empty(len(items), dtype=h5py.ref_dtype)
            data[:] = [refer(item) for item in items]
            return parent.create_dataset(name, data=data.reshape(shape).T, dtype=h5py.ref_dtype)

        def put(parent, name, value):
            if isinstance(value, dict):
                group = parent.create_group(name)
                group.attrs["MATLAB_class"] = np.bytes_("struct")
                for field, item in value.items():
                    put(group, field, item)
            elif isinstance(value, np.ndarray) and value.dtype == object and isinstance(value.reshape(-1)[0], dict):
                group = parent.create_group(name)
                group.attrs["MATLAB_class"] = np.bytes_("struct")
                for field in value.reshape(-1)[0]:
                    references(group, field, [item[field] for item in value.reshape(-1)], value.shape)
            elif isinstance(value, np.ndarray) and value.dtype == object:
                references(parent, name, list(value.reshape(-1)), value.shape).attrs["MATLAB_class"] = np.bytes_("cell")
            elif isinstance(value, str):
                data = parent.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
                data.attrs["MATLAB_class"] = np.bytes_("char")
            else:
                array = np.atleast_2d(np.asarray(value))
                data = parent.create_dataset(name, data=array.T)
                data.attrs["MATLAB_class"] = np.bytes_({"f4": "single"}.get(array.dtype.str[1:], "double"))

        for name, value in variables.items():
            put(file, name, value)
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def save_7(path, variables):
    scipy.io.savemat(path, variables)


def refused(path, words):
    with pytest.raises(CalibrationError, match=words) as error:
        read_psf(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


# -------------------------------------------------------------------------------------------------------------------- the test's own


def test_the_coefficients_of_this_test_are_those_of_the_known_psf():
    values = stack()
    for i, j, k in ((0, 0, 0), (8, 7, 10), (16, 16, 24), (9, 3, 5)):
        assert evaluate(COEFFICIENTS, i, j, k) == pytest.approx(values[i, j, k], abs=1e-12)
    between = lopsided([0.3], [-0.2], [-(12.5 - Z0) * DZ])[0]
    assert evaluate(COEFFICIENTS, 8 + 0.2, 8 - 0.3, 12.5) == pytest.approx(float(between[8, 8]), abs=2e-4)


# ------------------------------------------------------------------------------------------------------------------------ SMAP


@pytest.mark.parametrize("save", [save_7, save_73])
@pytest.mark.parametrize("layout", ["SXY", "top", "bare"])
def test_smap_is_read_as_its_coefficients_mean(tmp_path, save, layout):
    path = tmp_path / "bead_3dcal.mat"
    variables = {
        "SXY": {"SXY": tile(), "parameters": PARAMETERS},
        "top": {"cspline": cspline(), "parameters": PARAMETERS},
        "bare": {"cspline": cspline(coeff=COEFFICIENTS.astype(np.float32)), "parameters": PARAMETERS},
    }[layout]
    save(path, variables)
    section, record = read_psf(path)
    factor = largest_light(COEFFICIENTS)
    assert record["normalisation"] == pytest.approx(factor, rel=1e-5)
    assert section.kind == "spline"
    agree_with_coefficients(section, COEFFICIENTS, factor)
    assert record["z_range_nm"] == [(Z0 - PLANES + 1) * DZ, Z0 * DZ]
    assert record["pixel_size_nm"] == [110.0, 100.0]  # SMAP says (x, y)
    assert record["modality"] == "astig"
    assert record["em_gain_on"] is (True if layout == "SXY" else None)
    assert record["em_mirror"] is False
    assert record["notes"] == []


def test_smap_keeps_rows_columns_and_the_sign_of_z(tmp_path):
    save_7(tmp_path / "c.mat", {"SXY": tile(), "parameters": PARAMETERS})
    section, record = read_psf(tmp_path / "c.mat")
    margin = (NODES - section.roi_px) // 2
    for dx, dy, z in ((0.0, 0.0, 0.0), (0.4, 0.0, 200.0), (0.0, 0.4, -150.0)):
        known = lopsided([dx], [dy], [z])[0].numpy()[margin:-margin, margin:-margin]
        found = drawn(section, dx, dy, z)[0] * record["normalisation"]
        np.testing.assert_allclose(found, known, atol=8e-3 * known.max())
        for other in (known.T, known[::-1], known[:, ::-1]):
            assert np.abs(found - other).max() > 0.1 * known.max()
    at_plus = lopsided([0.0], [0.0], [200.0])[0].numpy()[margin:-margin, margin:-margin]
    at_minus = drawn(section, 0.0, 0.0, -200.0)[0]
    assert np.abs(at_minus - at_plus).max() > 0.1 * at_plus.max()


def test_a_brighter_file_is_scaled_to_fractions(tmp_path):
    save_7(tmp_path / "a.mat", {"SXY": tile()})
    save_7(tmp_path / "b.mat", {"SXY": tile(coefficients=7 * COEFFICIENTS)})
    refused(tmp_path / "a.mat", "the pixel size is not known, but the spline counts in pixels .*give pixel_size_nm")
    one, first = read_psf(tmp_path / "a.mat", pixel_size_nm=PIXEL_NM)
    other, second = read_psf(tmp_path / "b.mat", pixel_size_nm=PIXEL_NM)
    assert second["normalisation"] == pytest.approx(7 * first["normalisation"], rel=1e-5)
    np.testing.assert_allclose(drawn(other, 0.1, 0.2, 90.0), drawn(one, 0.1, 0.2, 90.0), rtol=1e-5, atol=1e-8)
    assert drawn(one, 0.0, 0.0, 0.0).sum() == pytest.approx(1.0, abs=0.02)


def test_a_centre_off_the_middle_and_a_missing_z0(tmp_path):
    save_7(tmp_path / "c.mat", {"SXY": tile(coefficients=COEFFICIENTS[1:, 1:], x0=float(NODES // 2), z0=None)})
    section, record = read_psf(tmp_path / "c.mat", pixel_size_nm=PIXEL_NM)
    factor = largest_light(COEFFICIENTS[1:-1, 1:-1])
    z0 = (PLANES - 1 + 1) // 2
    agree_with_coefficients(section, COEFFICIENTS, factor, z0=z0, atol=1e-5)
    assert any("were cut to 15 x 15 about the centre x0 = 8" in note for note in record["notes"])
    assert any("no z0" in note for note in record["notes"])


def test_polynomials_that_do_not_join_are_read_at_their_nodes(tmp_path):
    values = stack()
    straight = np.zeros((NODES - 1, NODES - 1, PLANES - 1, 64))  # between the nodes, with kinks at them
    for c, b, a in product(range(2), repeat=3):
        part = values
        for axis, power in enumerate((a, b, c)):
            part = np.diff(part, axis=axis) if power else part.take(range(part.shape[axis] - 1), axis)
        straight[..., 16 * c + 4 * b + a] = part
    straight[5, 5, 5, 63] = 3e38  # inside a cell, as a damage would
    save_7(tmp_path / "c.mat", {"SXY": tile(coefficients=straight), "parameters": PARAMETERS})
    section, record = read_psf(tmp_path / "c.mat")
    assert any("do not join smoothly" in note for note in record["notes"])
    half = section.roi_px // 2
    found = drawn(section, 0.0, 0.0, 0.0)[0][half - 2 : half + 3, half - 2 : half + 3] * record["normalisation"]
    np.testing.assert_allclose(found, values[6:11, 6:11, int(Z0)], atol=1e-6)


@pytest.mark.parametrize("save", [save_7, save_73])
def test_of_several_tiles_the_middle_one_with_a_spline_is_taken(tmp_path, save):
    tiles = np.empty((2, 3), dtype=object)
    for x, y in product(range(2), range(3)):
        shifted = tile(coefficients=COEFFICIENTS, z0=float(10 * x + y))
        tiles[x, y] = {"cspline": shifted["cspline"] if (x, y) != (0, 1) else np.zeros((0, 0)), "posind": np.array([[x, y]])}
    save(tmp_path / "c.mat", {"SXY": tiles, "parameters": PARAMETERS})
    _, record = read_psf(tmp_path / "c.mat")
    assert record["tiles"] == {"found": [2, 3], "taken": [2, 2]}
    assert record["z0"] == 11.0
    assert any("tile (2, 2) was taken" in note for note in record["notes"])


@pytest.mark.parametrize("save", [save_7, save_73])
def test_two_channels_are_two_planes_that_share_the_photons(tmp_path, save):
    second = coefficients_of(stack()[::-1]) * 0.5
    both = tile(coeff=cell_of(COEFFICIENTS.astype(np.float32), second.astype(np.float32)), mirror=2.0)
    save(tmp_path / "c.mat", {"SXY": tile(z0=3.0), "SXY_g": both, "parameters": PARAMETERS})
    section, record = read_psf(tmp_path / "c.mat")
    factor = 1.5 * largest_light(COEFFICIENTS)
    assert section.build(PIXEL_NM).planes == 2
    agree_with_coefficients(section, COEFFICIENTS, factor)
    agree_with_coefficients(section, second, factor, plane=1)
    assert any("mirrored" in note for note in record["notes"])


def test_smap_round_trip(tmp_path):
    save_7(tmp_path / "a.mat", {"SXY": tile(), "parameters": PARAMETERS})
    section, record = read_psf(tmp_path / "a.mat")
    write_psf(tmp_path / "b.mat", section, record)
    again, other = read_psf(tmp_path / "b.mat")
    np.testing.assert_allclose(again.coefficients, section.coefficients, atol=2e-6 * np.abs(section.coefficients).max())
    assert (again.z_min_nm, again.z_step_nm) == pytest.approx((section.z_min_nm, section.z_step_nm))
    assert again.roi_px == section.roi_px
    for name in ("z_range_nm", "z0", "pixel_size_nm", "modality", "em_gain_on", "em_mirror"):
        assert other[name] == pytest.approx(record[name]) if name != "modality" else other[name] == record[name]
    written = scipy.io.loadmat(tmp_path / "b.mat", struct_as_record=False, squeeze_me=True)["SXY"].cspline
    assert written.coeff.dtype == np.float32
    assert written.coeff.shape == COEFFICIENTS.shape
    assert (written.dz, written.z0, written.x0) == (DZ, Z0, NODES // 2 + 1)
    np.testing.assert_allclose(written.coeff[..., 0], COEFFICIENTS[..., 0] / record["normalisation"], atol=1e-6)
    np.testing.assert_allclose(written.coeff * record["normalisation"], COEFFICIENTS, atol=2e-5)


def test_any_psf_can_be_written_as_a_spline(tmp_path):
    settings = AstigmaticSettings(width_nm=140.0, focus_a_nm=250.0, focus_b_nm=-200.0, depth_nm=380.0, angle_deg=25.0, roi_px=17)
    write_psf(tmp_path / "c.mat", settings, {"z_range_nm": (-300.0, 500.0)}, pixel_size_nm=PIXEL_NM)
    section, record = read_psf(tmp_path / "c.mat")
    assert record["z_range_nm"] == pytest.approx([-300.0, 500.0])
    assert record["pixel_size_nm"] == pytest.approx(list(PIXEL_NM))
    margin = (17 - section.roi_px) // 2
    for dx, dy, z in ((0.0, 0.0, 0.0), (0.35, -0.2, 410.0), (-0.4, 0.45, -290.0)):
        known = drawn(settings, dx, dy, z)[0][margin : 17 - margin, margin : 17 - margin]
        np.testing.assert_allclose(drawn(section, dx, dy, z)[0], known, atol=0.005 * known.max())


def test_a_biplane_is_written_as_two_channels(tmp_path):
    biplane = MultiplaneSettings(
        width_nm=140.0,
        plane_focus_nm=(-200.0, 250.0),
        depth_nm=350.0,
        transmission=(0.6, 0.4),
        shift_nm=((0, 0), (40.0, -30.0)),
        roi_px=17,
    )
    write_psf(tmp_path / "c.mat", biplane, {"z_range_nm": (-400.0, 400.0)}, pixel_size_nm=PIXEL_NM)
    section, _ = read_psf(tmp_path / "c.mat")
    found, known = drawn(section, 0.2, -0.1, 90.0), drawn(biplane, 0.2, -0.1, 90.0)
    margin = (17 - section.roi_px) // 2
    known = known[:, margin : 17 - margin, margin : 17 - margin]
    np.testing.assert_allclose(found, known, atol=0.006 * known.max())
    normf = scipy.io.loadmat(tmp_path / "c.mat", struct_as_record=False, squeeze_me=True)["SXY_g"].cspline.normf
    np.testing.assert_allclose(normf, [1, 2 / 3], rtol=0.02)


def test_what_smap_cannot_hold_is_not_written(tmp_path):
    quad = MultiplaneSettings(width_nm=133.0, plane_focus_nm=(-600.0, -200.0, 200.0), depth_nm=302.0)
    for settings, record, words in (
        (quad, {"z_range_nm": (-400.0, 400.0), "pixel_size_nm": 100.0}, "a PSF of 3 planes, but SMAP knows one or two"),
        (quad, {"pixel_size_nm": 100.0}, "the range of depths is not known"),
        (quad, {"z_range_nm": (-400.0, 400.0)}, "the pixel size is not known"),
        (quad, {"z_range_nm": (-1e6, 1e6), "pixel_size_nm": 100.0}, "expected a range of 60 to 10000 nm"),
    ):
        with pytest.raises(CalibrationError, match=words):
            write_psf(tmp_path / "c.mat", settings, record)
    assert list(tmp_path.iterdir()) == []


def test_what_changes_over_the_field_is_not_written_for_smap(tmp_path):
    lens = {"kind": "gaussian", "width_nm": 130.0, "depth_nm": 350.0, "roi_px": 15}
    record = {"z_range_nm": (-400.0, 400.0), "pixel_size_nm": PIXEL_NM}

    def planes(affine, second=lens):
        pair = ({"psf": lens, "transmission": 0.5}, {"psf": second, "transmission": 0.5, "affine": affine})
        return PlanesSettings(plane=pair, roi_px=15)

    here = ((1.0, 0.0, 40.0), (0.0, 1.0, -30.0))
    write_psf(tmp_path / "shifted.mat", planes(here), record)
    shifted, _ = read_psf(tmp_path / "shifted.mat")
    found, known = drawn(shifted, 0.2, -0.1, 90.0), drawn(planes(here), 0.2, -0.1, 90.0)
    margin = (15 - shifted.roi_px) // 2
    np.testing.assert_allclose(found, known[:, margin : 15 - margin, margin : 15 - margin], atol=0.01 * known.max())
    pupil = {"kind": "pupil", "wavelength_nm": 650.0, "numerical_aperture": 1.1, "immersion_index": 1.33, "model": "scalar"}
    maps = np.zeros((6, 2, 2))
    field = {"kind": "field", "pupil": pupil, "field_nm": (2e4, 2e4), "roi_px": 15}
    flat, uneven = {**field, "zernike_maps_nm": maps + 10}, {**field, "zernike_maps_nm": maps + np.arange(4.0).reshape(2, 2)}
    write_psf(tmp_path / "flat.mat", FieldSettings(**flat), record)
    for section, words in (
        (planes(((1.0, 0.01, 0.0), (-0.01, 1.0, 0.0))), "plane 2 is turned or stretched against the first"),
        (planes(((1.002, 0.0, 0.0), (0.0, 1.0, 0.0))), "plane 2 is turned or stretched against the first"),
        (planes(here, uneven), "in plane 2 the aberrations change over the field"),
        (FieldSettings(**uneven), "c.mat: the aberrations change over the field, which a '.mat' does not hold"),
    ):
        with pytest.raises(CalibrationError, match=words) as error:
            write_psf(tmp_path / "c.mat", section, record)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "c.mat").exists()


@pytest.mark.parametrize("save", [save_7, save_73])
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"saveloc": {"loc": 1.0}}, r"holds saveloc \(localizations of SMAP\), expected a 3D calibration of SMAP"),
        ({"stack": np.zeros((3, 4))}, "holds stack, expected a 3D calibration of SMAP"),
        ({"SXY": {"gauss_zfit": np.zeros((1, 8))}}, "no cspline.coeff, expected a spline"),
        ({"SXY": np.zeros((2, 2))}, "SXY holds no structs"),
        ({"SXY": tile(coeff=cell_of(np.zeros((5, 5, 64), np.float32)))}, r"cspline.coeff is \(5, 5, 64\), expected"),
        ({"SXY": tile(coeff=cell_of(np.zeros((5, 5, 9, 63), np.float32)))}, r"cspline.coeff is \(5, 5, 9, 63\), expected"),
        ({"SXY": tile(coeff="none")}, "cspline.coeff is None, expected"),
        (
            {"SXY": tile(coeff=cell_of(np.zeros((6, 6, 9, 64), np.float32), np.zeros((7, 6, 9, 64), np.float32)))},
            r"cspline.coeff is \(6, 6, 9, 64\) and \(7, 6, 9, 64\), expected",
        ),
        ({"SXY": tile(coefficients=np.full((6, 6, 9, 64), np.nan))}, "not finite"),
        ({"SXY": tile(coefficients=np.zeros((16, 16, 9, 64)))}, "cspline.coeff sums to 0, expected a PSF"),
        ({"SXY": tile(dz=None)}, "cspline.dz is None, expected the distance of two planes"),
        ({"SXY": tile(dz=-10.0)}, "cspline.dz is -10.0, expected"),
        ({"SXY": tile(x0=40.0)}, "cspline.x0 is 40, expected one of the 17 x 17 nodes"),
        ({"SXY": tile(x0=3.0)}, "nodes, expected at least 4 planes and 7 nodes"),
        ({"SXY": tile(coefficients=COEFFICIENTS[:, :, :2])}, "3 planes .*expected at least 4 planes"),
    ],
)
def test_bad_smap_files_are_refused(tmp_path, save, variables, words):
    path = tmp_path / "c.mat"
    save(path, {**variables, **({"parameters": PARAMETERS} if "SXY" in variables else {})})
    refused(path, words)


@pytest.mark.parametrize("save", [save_7, save_73])
def test_truncated_smap_files_are_refused(tmp_path, save):
    path = tmp_path / "c.mat"
    small = cspline(coefficients=COEFFICIENTS[:8, :8, :6], x0=5.0)
    save(path, {"SXY": {"cspline": small}})
    whole = path.read_bytes()
    for part in (5, 100, 130, 600, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:part])
        refused(path, "readable|damaged|holds")


def test_rings_of_references_end(tmp_path):
    path = tmp_path / "c.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        cell = file.create_dataset("SXY", (30, 30), dtype=h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        cell[...] = np.full((30, 30), cell.ref, dtype=h5py.ref_dtype)
    refused(path, "more cells and structs than a calibration has")


# ------------------------------------------------------------------------------------------------------------------------ uiPSF

PARAMS = {"pixel_size": {"x": 0.1, "y": 0.11, "z": 0.04}, "gain": 0.2, "stage_mov_dir": "normal", "roi": {"roi_size": [17, 17]}}
MIDDLE = (PLANES - 1) // 2


def volume(shift=0):
    """Give the known PSF as uiPSF has it: (z, y, x), z falling from plane to plane and 0 in the middle."""
    z = -(np.arange(PLANES) - MIDDLE) * DZ
    return lopsided(np.full(PLANES, shift), np.zeros(PLANES), z).numpy()


def uipsf(path, groups, params=PARAMS):
    with h5py.File(path, "w") as file:
        if params is not None:
            file.attrs["params"] = params if isinstance(params, str) else json.dumps(params)
        for name, value in groups.items():
            file[name] = value
    return path


def test_uipsf_volume(tmp_path):
    values = volume()
    path = uipsf(
        tmp_path / "psf.h5", {"res/I_model": (500 * values + 3).astype(np.float32), "res/bg": np.ones(4), "locres/LL": [1.0]}
    )
    section, record = read_psf(path)
    light = np.median(500 * (values - values.min()).sum((1, 2)))
    assert record["normalisation"] == pytest.approx(light, rel=1e-4)
    assert record["subtracted"] == pytest.approx(3, abs=1e-3)
    assert record["pixel_size_nm"] == pytest.approx([110.0, 100.0])
    assert record["z_range_nm"] == pytest.approx([-(PLANES - 1 - MIDDLE) * DZ, MIDDLE * DZ])
    assert record["stage_mov_dir"] == "normal"
    assert any("test them with a bead" in note for note in record["notes"])
    margin = (NODES - section.roi_px) // 2
    for dx, dy, z in ((0.0, 0.0, 0.0), (0.4, 0.0, 200.0), (0.0, 0.4, -150.0)):
        known = lopsided([dx], [dy], [z])[0].numpy()[margin:-margin, margin:-margin]
        np.testing.assert_allclose(drawn(section, dx, dy, z)[0], known, atol=8e-3 * known.max())


def test_uipsf_coefficients_where_there_is_no_volume(tmp_path):
    # entry 16 c + 4 b + a belongs to dz^c dy^b dx^a; of coefficients over (x, y, z) this is the order of SMAP
    coefficients = coefficients_of(volume().transpose(2, 1, 0))
    path = uipsf(tmp_path / "psf.h5", {"locres/coeff": coefficients.transpose(3, 2, 1, 0).astype(np.float32)})
    section, record = read_psf(path)
    assert record["taken"] == "locres/coeff"
    margin = (NODES - section.roi_px) // 2
    for dx, dy, z in ((0.0, 0.0, 0.0), (0.4, 0.0, 200.0), (0.3, 0.4, -150.0)):
        known = lopsided([dx], [dy], [z])[0].numpy()[margin:-margin, margin:-margin]
        np.testing.assert_allclose(drawn(section, dx, dy, z)[0], known, atol=8e-3 * known.max())


def test_uipsf_channels_become_planes(tmp_path):
    values = volume()
    path = uipsf(
        tmp_path / "psf.h5", {"res/channel1/I_model": 0.5 * values[:, ::-1], "res/channel0/I_model": values, "res/T": np.eye(3)}
    )
    section, record = read_psf(path)
    assert section.build(PIXEL_NM).planes == 2
    both = drawn(section, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(both[1], 0.5 * both[0][::-1], atol=1e-5)
    assert both.sum() == pytest.approx(1.0, abs=0.03)
    assert record["taken"] == "res/I_model"


def test_uipsf_even_sides_and_finer_volumes(tmp_path):
    values = volume()
    even = np.pad(values, ((0, 0), (1, 0), (1, 0)))  # the centre is now sample n // 2
    odd, _ = read_psf(uipsf(tmp_path / "odd.h5", {"res/I_model": values}))
    section, record = read_psf(uipsf(tmp_path / "even.h5", {"res/I_model": even}))
    assert any("18 x 18 samples" in note for note in record["notes"])
    np.testing.assert_allclose(drawn(section, 0.2, 0.1, 80.0), drawn(odd, 0.2, 0.1, 80.0), atol=1e-5)
    params = {**PARAMS, "option": {"model": {"bin": 2}}, "roi": {"roi_size": [8, 8]}}
    finer, record = read_psf(uipsf(tmp_path / "finer.h5", {"res/I_model": values}, params))
    assert finer.nodes_per_px == 2
    assert any("2 samples a pixel" in note for note in record["notes"])
    assert drawn(finer, 0.0, 0.0, 0.0).sum() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("groups", "params", "words"),
    [
        ({"res/I_model": volume()}, None, "holds res, expected a PSF of denseloc .* or a calibration of uiPSF"),
        ({"res/I_model": volume()}, "{", "the attribute params is not JSON"),
        ({"res/I_model": volume()}, "[1]", "params holds list"),
        ({"res/I_model": volume()}, {"pixel_size": {"x": 0.1}}, "params has no pixel_size.z"),
        ({"res/pupil": volume()}, PARAMS, "neither res/I_model nor locres/coeff is there"),
        ({"res/I_model": volume()[0]}, PARAMS, r"res/I_model is \(17, 17\) of float64, expected finite numbers \(z, y, x\)"),
        ({"res/I_model": np.full((9, 9, 9), np.nan)}, PARAMS, r"res/I_model is \(9, 9, 9\) of float64, expected finite"),
        ({"res/I_model": np.zeros((9, 9, 9), np.int32)}, PARAMS, r"of int32, expected finite"),
        ({"res/I_model": np.zeros((9, 9, 9))}, PARAMS, "res/I_model sums to 0, expected a PSF"),
        ({"res/I_model": volume()[:, 7:10, 7:10]}, PARAMS, r"res/I_model is \(25, 3, 3\)"),
        ({"locres/coeff": np.zeros((63, 5, 8, 8))}, PARAMS, r"locres/coeff is \(63, 5, 8, 8\)"),
        ({"res/channel0/I_model": volume(), "res/channel0/A_model": volume()}, PARAMS, "4Pi microscope"),
    ],
)
def test_bad_uipsf_files_are_refused(tmp_path, groups, params, words):
    refused(uipsf(tmp_path / "psf.h5", groups, params), words)


def test_a_truncated_uipsf_file_is_refused(tmp_path):
    path = uipsf(tmp_path / "psf.h5", {"res/I_model": volume()})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "not a readable HDF5 file")


# --------------------------------------------------------------------------------------------------------------------------- own


def test_a_spline_goes_into_our_own_file_and_back(tmp_path):
    save_7(tmp_path / "a.mat", {"SXY": tile(), "parameters": PARAMETERS})
    section, record = read_psf(tmp_path / "a.mat")
    write_psf(tmp_path / "a.h5", section, record)
    again, other = read_psf(tmp_path / "a.h5")
    np.testing.assert_array_equal(again.coefficients, section.coefficients)
    assert other == record
    assert again.model_dump_json() == section.model_dump_json()
