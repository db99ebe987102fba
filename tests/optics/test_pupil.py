"""The pupil PSF against closed forms, against itself on other rasters, and against beads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import jv

from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.optics import PupilSettings
from denseloc.optics.pupil_field import Aperture
from denseloc.optics.zernike import zernike

WATER = {"wavelength_nm": 600.0, "numerical_aperture": 1.2, "immersion_index": 1.33, "medium_index": 1.33, "roi_px": 15}
OIL = {"wavelength_nm": 650.0, "numerical_aperture": 1.45, "immersion_index": 1.518, "medium_index": 1.33, "roi_px": 15}
AIR = {"wavelength_nm": 600.0, "numerical_aperture": 0.1, "immersion_index": 1.0, "medium_index": 1.0, "roi_px": 15}


def draw(
    values: dict[str, object], pixel_nm: object = 100.0, z_nm: object = 0.0, offset=(0.0, 0.0), **change: object
) -> np.ndarray:
    """Draw in double precision: (depths, rows, columns), or (rows, columns) for one depth."""
    pixel = pixel_nm if isinstance(pixel_nm, tuple) else (pixel_nm, pixel_nm)
    psf = PupilSettings(**{**values, **change}).build(pixel).double()
    z = torch.atleast_1d(torch.as_tensor(z_nm, dtype=torch.float64))
    patches = psf(torch.tensor([offset], dtype=torch.float64).expand(len(z), 2), z)[:, 0].detach().numpy()
    return patches if np.ndim(z_nm) else patches[0]


def over_pixels(density, pixel_nm: tuple[float, float], roi_px: int, offset=(0.0, 0.0), fine: int = 41) -> np.ndarray:
    """Integrate a round density (per nm^2) over pixels by fine midpoints."""
    at = (np.arange(roi_px * fine) + 0.5) / fine - roi_px / 2
    radius = np.hypot((at - offset[0]) * pixel_nm[1], (at - offset[1])[:, None] * pixel_nm[0])
    table = np.linspace(0, radius.max(), 1500)
    values = np.interp(radius, table, density(table))
    return values.reshape(roi_px, fine, roi_px, fine).sum((1, 3)) * pixel_nm[0] * pixel_nm[1] / fine**2


def airy(radius: np.ndarray) -> np.ndarray:
    v = 2 * np.pi * AIR["numerical_aperture"] / AIR["wavelength_nm"] * radius + 1e-9
    return (2 * jv(1, v) / v) ** 2 * np.pi * AIR["numerical_aperture"] ** 2 / AIR["wavelength_nm"] ** 2


# ------------------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("model", ["scalar", "vectorial"])
@pytest.mark.parametrize("pixel_nm", [(300.0, 400.0), (1100.0, 900.0), (2500.0, 2500.0)])
def test_a_low_aperture_in_focus_is_the_airy_pattern(model: str, pixel_nm: tuple[float, float]) -> None:
    found = draw(AIR, pixel_nm, offset=(0.3, -0.2), model=model)
    expected = over_pixels(airy, pixel_nm, 15, (0.3, -0.2))
    assert abs(found - expected).max() < (1e-3 if model == "scalar" else 5e-3) * expected.max()
    assert found.sum() == pytest.approx(expected.sum(), abs=3e-3)
    assert found.sum() < 0.97  # the outer rings lie beside the patch, and are not put back


def test_a_high_aperture_is_richards_and_wolfs_integrals() -> None:
    """``(2 (|a0|^2 + |a2|^2) + |a1|^2)`` with Bessel integrals over the cone: all dipoles, one refractive index."""
    k, top = 2 * np.pi * 1.33 / 600, 1.2 / 1.33
    sine = (np.arange(300) + 0.5) / 300 * top
    cosine = np.sqrt(1 - sine**2)
    weight = 2 * np.pi * sine * (top / 300) / np.sqrt(cosine)

    def density(radius: np.ndarray) -> np.ndarray:
        v = k * radius[:, None] * sine
        a0, a1, a2 = ((weight * part * jv(m, v)).sum(1) for m, part in enumerate(((1 + cosine) / 2, sine, (1 - cosine) / 2)))
        energy = (2 * weight / np.sqrt(cosine)).sum()
        return (2 * (a0**2 + a2**2) + a1**2) / energy / (2 * np.pi / k) ** 2

    found, expected = draw(WATER, 80.0, model="vectorial"), over_pixels(density, (80.0, 80.0), 15)
    assert abs(found - expected).max() < 1e-3 * expected.max()
    assert abs(draw(WATER, 80.0, model="scalar") - expected).max() > 0.1 * expected.max()


def test_the_width_in_focus_is_that_of_the_textbook() -> None:
    assert PupilSettings(**AIR).width_in_focus_nm() == pytest.approx(0.21 * 600 / 0.1, rel=0.04)
    wide = PupilSettings(**WATER, zernike_nm=(0, 0, 0, 0, 0, 80.0)).width_in_focus_nm()
    assert wide > 1.15 * PupilSettings(**WATER).width_in_focus_nm()


def test_the_aperture_has_the_area_of_a_disc() -> None:
    for size in (16, 37, 64):
        aperture = Aperture.of(size)
        assert aperture.coverage.sum() * 4 / size**2 == pytest.approx(math.pi, rel=1e-4)
        assert aperture.coverage.max() <= 1 + 1e-12
        radius = np.hypot(aperture.places, aperture.places[:, None]).clip(max=1)
        np.testing.assert_allclose(aperture.radii[aperture.which], radius, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("values", [WATER, OIL], ids=["water", "oil"])
def test_small_pixels_add_up_to_large_ones(values: dict[str, object]) -> None:
    z = [-400.0, 0.0, 300.0]
    large = draw(values, 120.0, z, (0.1, 0.3), roi_px=11)
    small = draw(values, 40.0, z, (0.3, 0.9), roi_px=33)
    added = small.reshape(3, 11, 3, 11, 3).sum((2, 4))
    assert abs(large - added).max() < 3e-4 * large.max()


def test_the_image_does_not_depend_on_the_cells_of_the_pupil() -> None:
    z = [-1000.0, 0.0, 700.0]
    coarse, fine = (draw(WATER, 100.0, z, pupil_px=n, zernike_nm=(0, 0, 0, 30.0, 0, 50.0, 0, 20.0, 0, 0)) for n in (64, 160))
    assert (abs(coarse - fine).max((1, 2)) < 6e-3 * fine.max((1, 2))).all()


def test_without_aberrations_the_image_has_the_symmetry_of_the_pixels() -> None:
    for image in draw(OIL, 100.0, [-300.0, 0.0, 500.0], model="vectorial", depth_nm=500.0):
        np.testing.assert_allclose(image, image.T, atol=3e-6 * image.max())
        np.testing.assert_allclose(image, image[::-1], atol=3e-6 * image.max())
    matched = draw(WATER, 100.0, [-300.0, 300.0])
    np.testing.assert_allclose(matched[0], matched[1], atol=3e-6 * matched.max())


def test_beyond_the_known_depths_rays_wrap_around_and_a_coarse_pupil_is_refused() -> None:
    low, high = PupilSettings(**WATER, pupil_px=16).build((100.0, 100.0)).z_range_nm
    wide = PupilSettings(**WATER, pupil_px=64).build((100.0, 100.0)).z_range_nm
    assert wide[0] < 3 * low < 0 < 3 * high < wide[1]
    z = [0.6 * high, 2.6 * high]
    coarse, fine = draw(WATER, 100.0, z, pupil_px=16), draw(WATER, 100.0, z, pupil_px=256)
    error = abs(coarse - fine).max((1, 2)) / fine.max((1, 2))
    assert error[0] < 0.1
    assert error[1] > 1.0
    with pytest.raises(DocumentError, match=r"pupil_px 16 repeats the image every 4000 nm.*raise pupil_px to"):
        PupilSettings(**{**WATER, "roi_px": 41}, pupil_px=16).build((100.0, 100.0))


def test_blur_is_a_gaussian() -> None:
    sharp = draw(WATER, 25.0, 100.0, roi_px=95, model="vectorial")
    for blur, bead in ((30.0, 0.0), (0.0, 180.0), (60.0, 100.0)):
        sigma = math.hypot(blur, bead / math.sqrt(20))
        expected = gaussian_filter(sharp, sigma / 25.0, truncate=6)[10:-10, 10:-10]
        found = draw(WATER, 25.0, 100.0, roi_px=75, model="vectorial", blur_nm=blur, bead_diameter_nm=bead)
        assert abs(found - expected).max() < 2e-3 * expected.max()
        assert abs(found - sharp[10:-10, 10:-10]).max() > 0.02 * expected.max()


# ------------------------------------------------------------------------------------------------------------------- depth


@pytest.mark.parametrize(
    "change",
    [{"model": "scalar"}, {"model": "vectorial"}, {"model": "vectorial", "zernike_nm": (0, 0, 0, 20.0, 0, 60.0), "blur_nm": 40.0}],
    ids=["scalar", "vectorial", "aberrated"],
)
def test_derivatives_are_finite_differences(change: dict[str, object]) -> None:
    psf = PupilSettings(**{**OIL, "roi_px": 5, "pupil_px": 16, "depth_nm": 300.0, **change}).build((100.0, 110.0)).double()
    offset = torch.tensor([[0.2, -0.3], [-0.4, 0.1]], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([150.0, -200.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at, depth: 1e3 * psf(at, 100 * depth), (offset, z / 100), eps=1e-5, atol=1e-5)
    _, slopes = psf.with_derivatives(offset.detach(), z.detach())
    step = 1e-2
    expected = (psf(offset, z + step) - psf(offset, z - step)) / (2 * step)
    torch.testing.assert_close(slopes[:, 2], expected.detach(), rtol=1e-6, atol=1e-10)


def test_positive_z_is_farther_from_the_objective_and_a_longer_way_is_a_positive_phase() -> None:
    cells = (np.arange(64) - 31.5) / 32
    sine = np.hypot(cells, cells[:, None]).clip(max=1) * 1.2 / 1.33
    way = 2 * np.pi * 1.33 / 600 * 400.0 * np.sqrt(1 - sine**2)
    aberration = (0, 0, 0, 30.0, 0, 60.0)
    found = draw(WATER, 100.0, 0.0, phase=way, zernike_nm=aberration)
    expected = draw(WATER, 100.0, 400.0, zernike_nm=aberration)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    assert abs(found - draw(WATER, 100.0, -400.0, zernike_nm=aberration)).max() > 0.2 * expected.max()


def test_a_tilt_moves_the_image_as_an_offset_does() -> None:
    """A wavefront that grows by ``w NA / wavelength`` cycles from centre to edge moves the image by ``w``."""
    shift_nm = 30.0
    x = torch.ones((), dtype=torch.float64)
    rms = -shift_nm * 1.2 / float(zernike(2, x, 0 * x))
    tilted = draw(WATER, 100.0, 200.0, zernike_nm=(0.0, 0.0, rms))
    np.testing.assert_allclose(tilted, draw(WATER, 100.0, 200.0, (shift_nm / 100, 0.0)), atol=1e-6)


@pytest.mark.parametrize("depth_nm", [0.0, 1000.0, 3000.0])
def test_z_0_is_in_focus_at_any_depth(depth_nm: float) -> None:
    z = np.arange(-800.0, 801.0, 50.0)
    peaks = draw({**OIL, "numerical_aperture": 1.25}, 100.0, z, depth_nm=depth_nm, pupil_px=96).max((1, 2))
    assert abs(z[peaks.argmax()]) <= 50 + 0.08 * depth_nm
    assert peaks.max() < peaks[z == 0][0] * 1.15


def test_a_focal_plane_that_is_told_moves_the_focus() -> None:
    z = np.arange(0.0, 1201.0, 50.0)
    matched = draw(WATER, 100.0, z, focal_plane_nm=600.0).max((1, 2))
    assert z[matched.argmax()] == 600.0
    oil = draw({**OIL, "numerical_aperture": 0.5}, 100.0, z, focal_plane_nm=600.0, model="scalar").max((1, 2))
    assert z[oil.argmax()] == pytest.approx(600.0 * 1.33 / 1.518, abs=60.0)  # paraxial: the heights are as the indices


def test_supercritical_light_is_lost_with_height() -> None:
    """High above the glass an aperture of 1.45 in water is one of 1.33; on the glass it holds more."""
    cut = {**OIL, "numerical_aperture": 1.33}
    high, high_cut = (draw(v, 60.0, depth_nm=4000.0, focal_plane_nm=5000.0, pupil_px=128) for v in (OIL, cut))
    assert abs(high - high_cut).max() < 0.01 * high.max()
    low, low_cut = (draw(v, 60.0, focal_plane_nm=0.0) for v in (OIL, cut))
    assert abs(low - low_cut).max() > 0.1 * low.max()


# ------------------------------------------------------------------------------------------------------------------- document


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"numerical_aperture": 1.6}, "numerical_aperture 1.6 must be below immersion_index 1.33"),
        ({"zernike_nm": (0.0, 1.0, 2.0, 3.0)}, "zernike_nm has 4 entries; fill the radial degree with zeros, to 6"),
        ({"phase": np.zeros((8, 9))}, r"phase of shape \(8, 9\): expected a square grid"),
        ({"amplitude": -np.ones((8, 8))}, "amplitude must be positive"),
        ({"pupil_px": 33}, "'pupil_px'.*multiple of 2"),
        ({"mask": {"kind": "tetrapot"}}, "unknown mask 'tetrapot'.*did you mean 'tetrapod'"),
        ({"wavelenght_nm": 3.0}, "unknown key 'wavelenght_nm'.*did you mean 'wavelength_nm'"),
    ],
)
def test_impossible_optics_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(DocumentError, match=words) as error:
        parse(PupilSettings, {**WATER, **change}, "example")
    assert "\n" not in str(error.value)


def test_learned_parameters_travel_as_json() -> None:
    settings = PupilSettings(**OIL, depth_nm=200.0, zernike_nm=(0.0,) * 6, phase=np.zeros((10, 10)), blur_nm=20.0)
    psf = settings.build((100.0, 100.0))
    assert {n for n, _ in psf.named_parameters()} == {"wavelength_nm", "depth_nm", "blur_nm", "zernike_nm", "phase"}
    with torch.no_grad():
        psf.zernike_nm[5] = 40.0
        psf.phase[3] = 0.5
        psf.depth_nm += 300.0
    again = PupilSettings.model_validate_json(psf.described().model_dump_json())
    assert again.zernike_nm[5] == 40.0
    assert (again.phase[3] == 0.5).all()
    at = torch.tensor([[0.1, 0.2]]), torch.tensor([100.0])
    torch.testing.assert_close(again.build((100.0, 100.0))(*at), psf(*at), rtol=1e-5, atol=1e-8)
    assert (settings.build((100.0, 100.0))(*at) - psf(*at)).abs().max() > 1e-3


def test_double_positions_go_into_a_single_precision_psf() -> None:
    psf = PupilSettings(**WATER).build((100.0, 100.0))
    at, z = torch.tensor([[0.1, 0.2]]), torch.tensor([100.0])
    torch.testing.assert_close(psf(at.double(), z.double()), psf(at, z))
    assert psf(at[:0], z[:0]).shape == (0, 1, 15, 15)


# ------------------------------------------------------------------------------------------------------------------- a real bead


def test_a_measured_bead_looks_like_the_model(shared) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = shared / "data" / "pyotf" / "psf_wl520nm_z300nm_x130nm_na0.85_n1.0.tif"
    if not path.is_file():
        pytest.skip("the bead stack is not beside this checkout")
    stack = tifffile.imread(path).astype(float)
    plane, row, column = np.unravel_index(stack.argmax(), stack.shape)
    bead = stack[plane - 4 : plane + 5, row - 10 : row + 11, column - 10 : column + 11] - np.median(stack[:, :40, :40])
    optics = {"wavelength_nm": 520.0, "numerical_aperture": 0.85, "immersion_index": 1.0, "medium_index": 1.0, "roi_px": 21}
    z = 300.0 * np.arange(-4, 5) + 50.0

    def likeness(**change: object) -> float:
        model = draw({**optics, **change}, 130.0, z, (-0.45, -0.4), blur_nm=90.0)
        return float(np.corrcoef(model.ravel(), bead.ravel())[0, 1])

    assert likeness() > 0.965
    assert likeness(numerical_aperture=0.6) < likeness() - 0.03
