"""PSFs that depend on the place in the field: registered planes, and aberrations as maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from denseloc.camera import IdealSettings
from denseloc.data import Emitters, Grid
from denseloc.errors import DocumentError
from denseloc.experiment import Experiment
from denseloc.fit import crlb, fit_single
from denseloc.microscope import Microscope
from denseloc.optics import FieldSettings, GaussianSettings, MultiplaneSettings, PlanesSettings, PupilSettings, ResidualMaps
from denseloc.optics.field import interpolated

PIXEL_NM = (120.0, 100.0)
AFFINE = ((1.02, -0.03, 150.0), (0.03, 0.98, -90.0))
CENTRE = (3000.0, 2400.0)


def biplane(**change: object) -> PlanesSettings:
    one = GaussianSettings(width_nm=130, depth_nm=350, focus_nm=-250)
    planes = [{"psf": one, "transmission": 0.6}, {"psf": one, "transmission": 0.4, "affine": AFFINE}]
    return PlanesSettings(**{"plane": planes, "centre_nm": CENTRE, "roi_px": 21, **change})


def at_places(x: list[float], y: list[float]) -> Emitters:
    n = len(x)
    return Emitters.of(torch.arange(n), torch.tensor(x), torch.tensor(y), torch.full((n,), 1000.0), torch.zeros(n))


def test_an_emitter_stands_where_the_registration_says() -> None:
    microscope = Microscope(biplane().build(PIXEL_NM), IdealSettings().build(), Grid((40, 60), PIXEL_NM))
    x, y = [1000.0, 3000.0, 4900.0], [1300.0, 2400.0, 3600.0]
    images = microscope.expected(at_places(x, y), torch.zeros(3, 1, 40, 60)).detach()
    torch.testing.assert_close(images.sum((2, 3)), torch.tensor([[600.0, 400.0]]).expand(3, -1), rtol=2e-3, atol=0)
    light = images / images.sum((2, 3), keepdim=True)
    found_x = (light.sum(2) * (torch.arange(60) + 0.5) * PIXEL_NM[1]).sum(2)
    found_y = (light.sum(3) * (torch.arange(40) + 0.5) * PIXEL_NM[0]).sum(2)
    (xx, xy, x0), (yx, yy, y0) = AFFINE
    for k in range(3):
        dx, dy = x[k] - CENTRE[0], y[k] - CENTRE[1]
        assert found_x[k].tolist() == pytest.approx([x[k], CENTRE[0] + xx * dx + xy * dy + x0], abs=1.5)
        assert found_y[k].tolist() == pytest.approx([y[k], CENTRE[1] + yx * dx + yy * dy + y0], abs=1.5)


def test_derivatives_follow_the_registration() -> None:
    psf = biplane().build(PIXEL_NM).double()
    pixel = torch.tensor(PIXEL_NM[::-1], dtype=torch.float64)
    place = torch.tensor([[1000.0, 1300.0], [4900.0, 3600.0]], dtype=torch.float64)
    whole = (place / pixel - 0.5).round()

    def draw(position: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return psf(position / pixel - 0.5 - whole, z, None, position).detach()

    z = torch.tensor([-100.0, 120.0], dtype=torch.float64)
    values, slopes = psf.with_derivatives(place / pixel - 0.5 - whole, z, place)
    torch.testing.assert_close(values, draw(place, z))
    for axis in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = 1e-2
        expected = (draw(place + step, z) - draw(place - step, z)) / 2e-2 * pixel[axis]
        torch.testing.assert_close(slopes[:, axis], expected, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(slopes[:, 2], (draw(place, z + 0.01) - draw(place, z - 0.01)) / 0.02, rtol=1e-5, atol=1e-10)


def test_the_registration_can_be_learned() -> None:
    psf = biplane().build(PIXEL_NM)
    microscope = Microscope(psf, IdealSettings().build(), Grid((40, 60), PIXEL_NM))
    microscope.expected(at_places([1000.0], [1300.0]), torch.zeros(1, 1, 40, 60)).square().sum().backward()
    assert psf.affine.grad is not None
    assert (psf.affine.grad[1] != 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"affine": ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))}, "the affine of plane 1 is flat"),
        ({"transmission": 0.9}, r"add up to 1\.8"),
        ({"psf": {"kind": "multiplane"}}, "unknown PSF of a plane 'multiplane'"),
    ],
)
def test_impossible_planes_are_refused(change: dict, words: str) -> None:
    plane = {"psf": {"kind": "gaussian", "width_nm": 130}, "transmission": 0.5, **change}
    with pytest.raises(ValidationError, match=words):
        PlanesSettings(plane=[plane, plane])


def test_light_that_would_leave_the_patch_is_not_lost_silently() -> None:
    stretched = biplane(centre_nm=(0.0, 0.0)).build(PIXEL_NM)
    with pytest.raises(DocumentError, match=r"moves emitters by 1\d\.\d px in the patch of 21 px"):
        stretched(torch.zeros(1, 2), torch.zeros(1), None, torch.tensor([[60_000.0, 0.0]]))


@pytest.mark.parametrize("shares", [(2.0, 2.0), (-1.0, 2.0)])
def test_shares_of_planes_are_shares(shares: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="expected shares above 0 that add up to 1 or less"):
        MultiplaneSettings(width_nm=130, plane_focus_nm=(-200, 200), depth_nm=350, transmission=shares)


def test_maps_of_too_few_planes_are_refused() -> None:
    section = MultiplaneSettings(width_nm=130, plane_focus_nm=(-200, 200), depth_nm=350, roi_px=7)
    maps = ResidualMaps(values=np.full((2, 8, 8), 1e-3, np.float32), z_min_nm=-100, z_step_nm=200)
    psf = section.model_copy(update={"residual_maps": maps}).build(PIXEL_NM)
    with pytest.raises(DocumentError, match="the residual maps have 1 focal planes, the PSF has 2"):
        psf(torch.zeros(1, 2), torch.zeros(1))


# ------------------------------------------------------------------------------------------------------------------------------ field

OPTICS = PupilSettings(wavelength_nm=650, numerical_aperture=1.1, immersion_index=1.33, model="scalar", pupil_px=32)


def over_field(maps: np.ndarray) -> FieldSettings:
    return FieldSettings(pupil=OPTICS, zernike_maps_nm=maps, field_nm=(8000.0, 12000.0), roi_px=13)


def test_at_the_places_of_the_raster_it_is_their_own_pupil() -> None:
    maps = np.random.default_rng(0).normal(0, 40, (6, 3, 4)).astype(np.float32)
    section = over_field(maps)
    psf = section.build(PIXEL_NM)
    offset, z = torch.tensor([[0.2, -0.3]]), torch.tensor([150.0])
    for row, column in ((0, 0), (1, 2), (2, 3)):
        place = torch.tensor([[column / 3 * 12000.0, row / 2 * 8000.0]])
        own = OPTICS.model_copy(update={"zernike_nm": tuple(maps[:, row, column].tolist()), "roi_px": 13}).build(PIXEL_NM)
        torch.testing.assert_close(psf(offset, z, None, place), own(offset, z), rtol=0, atol=2e-6)
        near = section.at(*place[0].tolist()).build(PIXEL_NM)
        torch.testing.assert_close(near(offset, z), own(offset, z), rtol=0, atol=2e-6)


def test_maps_are_smooth_and_planes_exact() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 8000, 4), torch.linspace(0, 12000, 5), indexing="ij")
    plane = (3 + 0.002 * x - 0.001 * y)[None].double()
    at = torch.rand(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.tensor([12000.0, 8000.0])
    found = interpolated(plane, at, (8000.0, 12000.0))[:, 0]
    torch.testing.assert_close(found, 3 + 0.002 * at[:, 0] - 0.001 * at[:, 1], rtol=0, atol=1e-5)
    bumpy = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    line = torch.stack((torch.linspace(0, 12000, 4001).double(), torch.full((4001,), 3000.0).double()), 1)
    along = interpolated(bumpy, line, (8000.0, 12000.0))[:, 0]
    assert along.diff().diff().abs().max() < 2e-5  # no kink: the slope changes as slowly across a node as elsewhere


def test_a_microscope_shows_other_images_at_other_places_and_learns_the_maps() -> None:
    maps = np.zeros((6, 2, 2), np.float32)
    maps[5, :, 1] = 80.0  # astigmatism grows to the right
    psf = over_field(maps).build(PIXEL_NM)
    microscope = Microscope(psf, IdealSettings().build(), Grid((60, 110), PIXEL_NM))
    e = Emitters.of(
        torch.zeros(2, dtype=torch.long),
        torch.tensor([1050.0, 10050.0]),
        torch.tensor([3060.0, 3060.0]),
        torch.full((2,), 1000.0),
        torch.full((2,), 250.0),
    )
    image = microscope.expected(e, torch.zeros(1, 1, 60, 110))[0, 0]
    left, right = image[19:32, 4:17], image[19:32, 94:107]
    assert (left - right).abs().max() > 0.15 * left.max()
    (right.square().sum() - left.square().sum()).backward()
    grad = psf.zernike_maps_nm.grad
    assert grad is not None
    assert (grad[5] != 0).all()


def test_maps_of_an_odd_number_of_polynomials_are_one_line() -> None:
    with pytest.raises(ValidationError, match="5 polynomials; fill the radial degree with maps of zeros, to 6"):
        over_field(np.zeros((5, 2, 2)))
    with pytest.raises(ValidationError, match=r"shape \(6, 1, 2\): expected finite numbers"):
        over_field(np.zeros((6, 1, 2)))


# ------------------------------------------------------------------------------------------------------------------------- fits


def test_fits_and_bounds_know_the_place() -> None:
    """Without the place, a plane that is registered elsewhere would pull positions away by several nm."""
    psf = biplane().build(PIXEL_NM)
    microscope = Microscope(psf, IdealSettings().build(), Grid((40, 60), PIXEL_NM))
    e = at_places([800.0, 5100.0], [1300.0, 3700.0])
    images = microscope.expected(e, torch.full((2, 2, 1, 1), 5.0)).detach()
    corner = torch.tensor([[0, 4], [44, 24]])  # column, row of the first pixel
    cut = torch.stack([image[:, r : r + 15, c : c + 15] for image, (c, r) in zip(images, corner.tolist(), strict=True)])
    origin = corner * torch.tensor(PIXEL_NM[::-1])
    fits = fit_single(psf, cut, origin_nm=origin, z_range_nm=(-500, 500))
    assert fits.converged.all()
    torch.testing.assert_close(fits["x_nm"] + origin[:, 0], e.x_nm.double(), rtol=0, atol=0.5)
    torch.testing.assert_close(fits["y_nm"] + origin[:, 1], e.y_nm.double(), rtol=0, atol=0.5)
    torch.testing.assert_close(fits["z_nm"], e.z_nm.double(), rtol=0, atol=2.0)
    at = torch.tensor([[fits["x_nm"][0], fits["y_nm"][0], 0.0]])
    place = (float(origin[0, 0]), float(origin[0, 1]))
    best = crlb(psf, at, 1000.0, 5.0, window_px=(15, 15), origin_nm=place)
    assert float(best.x_nm[0, 0]) == pytest.approx(float(fits.crlb("x_nm")[0]), rel=0.02)
    astray = fit_single(psf, cut, z_range_nm=(-500, 500))
    assert ((astray["x_nm"] + origin[:, 0] - e.x_nm).abs() > 3).any()


def test_training_sees_the_whole_field() -> None:
    maps = np.zeros((6, 2, 2), np.float32)
    maps[5, :, 1] = 80.0
    document = Experiment.from_json(
        {
            "pixel_size_nm": 100,
            "psf": over_field(maps).model_dump(),
            "camera": {"kind": "ideal"},
            "specimen": {
                "density_per_um2": 0.5,
                "z_nm": [250, 250],
                "photons": {"kind": "constant", "photons": 1000},
                "background": {"kind": "uniform", "photons": [1, 1]},
            },
            "localizer": {"kind": "decode", "preset": "tiny"},
            "training": {"patch_px": 32},
        }
    )
    simulator = document.build_simulator(document.build_localizer())
    origins = simulator._origins(200, torch.Generator().manual_seed(0))
    assert origins is not None
    assert origins.min() >= 0
    assert (origins.amax(0) <= torch.tensor([12000.0 - 3200, 8000.0 - 3200])).all()
    assert (origins.amax(0) > 0.9 * torch.tensor([12000.0 - 3200, 8000.0 - 3200])).all()
    batch = simulator.draw(4, torch.Generator().manual_seed(1))
    assert torch.isfinite(batch.photons).all()
