"""Sparse deconvolution: what it finds, where, and what it leaves out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from denseloc.camera import Ideal
from denseloc.data import Emitters, Frames, Grid, Localizations
from denseloc.description import parse
from denseloc.errors import DocumentError, ModelError
from denseloc.localize import CEL0, CEL0Settings, InputConditions, Scales
from denseloc.localize.fine_grid import FineGrid, fine_images
from denseloc.localize.spots import Spots, hills
from denseloc.microscope import Microscope
from denseloc.optics import (
    AstigmaticSettings,
    GaussianSettings,
    MultiplaneSettings,
    PSFSettings,
    PupilSettings,
    TwoGaussianSettings,
)

PIXEL_NM = (110.0, 100.0)
WIDTH_NM = 135.0
GAUSSIAN = GaussianSettings(width_nm=WIDTH_NM, roi_px=21)
PUPIL = PupilSettings(wavelength_nm=650, numerical_aperture=1.2, immersion_index=1.33, model="scalar", roi_px=15)


def cel0(excess: float = 1.0, noise: float = 0.0, planes: int = 1, background: float = 10.0, **settings: object) -> CEL0:
    conditions = InputConditions(background, excess, noise, WIDTH_NM / (PIXEL_NM[0] * PIXEL_NM[1]) ** 0.5)
    return parse(CEL0Settings, {"kind": "cel0", **settings}, "example").build(Scales(PIXEL_NM, 0.0, 1000.0, planes, conditions))


def frames(
    x_nm: list[float],
    y_nm: list[float],
    psf: PSFSettings = GAUSSIAN,
    shape: tuple[int, int] = (24, 30),
    noise: bool = True,
    photons: float = 2000.0,
    background: float = 10.0,
) -> Frames:
    """Draw one frame with emitters in focus; without noise, the expected light."""
    x, y = torch.tensor(x_nm), torch.tensor(y_nm)
    emitters = Emitters.of(torch.zeros(len(x), dtype=torch.long), x, y, torch.full((len(x),), photons))
    microscope = Microscope(psf.build(PIXEL_NM), Ideal(), Grid(shape, PIXEL_NM))
    with torch.no_grad():
        light = microscope.expected(emitters, torch.full((1, 1, *shape), background))
    generator = torch.Generator().manual_seed(5)
    return Frames(torch.poisson(light, generator=generator) if noise else light, PIXEL_NM)


def assert_found(table: Localizations, x_nm: list[float], y_nm: list[float], atol: float) -> None:
    assert len(table) == len(x_nm)
    order, expected = np.lexsort((table.x_nm, table.y_nm)), np.lexsort((x_nm, y_nm))
    np.testing.assert_allclose(table.x_nm[order], np.array(x_nm)[expected], atol=atol)
    np.testing.assert_allclose(table.y_nm[order], np.array(y_nm)[expected], atol=atol)


X, Y = [533.0, 1508.0, 2211.0, 1127.0], [1041.0, 562.0, 2055.0, 1899.0]


# -------------------------------------------------------------------------------------------------------------------------- grid


@pytest.mark.parametrize("psf", [GAUSSIAN, TwoGaussianSettings(width_1_nm=70, width_2_nm=150, roi_px=15), PUPIL])
@pytest.mark.parametrize("upsampling", [2, 4])
def test_the_light_of_a_point_is_that_of_an_emitter_there(psf: PSFSettings, upsampling: int) -> None:
    built = psf.build(PIXEL_NM).requires_grad_(False)
    grid = FineGrid(fine_images(built, torch.zeros(1), psf.roi_px, upsampling), (19, 37), upsampling)
    points = torch.zeros(2, *grid.shape)
    row, column = 9 * upsampling + 1, 20 * upsampling
    points[1, row + grid.half_px * upsampling, column + grid.half_px * upsampling] = 1.0
    image = grid.light(points)
    x, y = (column + 0.5) / upsampling * PIXEL_NM[1], (row + 0.5) / upsampling * PIXEL_NM[0]
    expected = frames([x], [y], psf, (19, 37), noise=False, photons=1.0, background=0.0).photons[0]
    torch.testing.assert_close(image[1], expected, rtol=0, atol=3e-3 * float(expected.max()))
    assert float(image[0].abs().max()) == 0


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (16, 33), (70, 23)])
def test_gather_is_the_transpose_of_light(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    built = TwoGaussianSettings(width_1_nm=70, width_2_nm=150, roi_px=9).build(PIXEL_NM).double().requires_grad_(False)
    images = fine_images(built, torch.zeros(1, dtype=torch.double), 9, 2).expand(2, -1, -1)
    grid = FineGrid(images, shape, 2)
    points = torch.rand(3, *grid.shape, dtype=torch.double, generator=generator)
    pixels = torch.rand(3, 2, *shape, dtype=torch.double, generator=generator)
    torch.testing.assert_close((grid.light(points) * pixels).sum(), (points * grid.gather(pixels)).sum())
    torch.testing.assert_close(grid.light(points)[1:2], grid.light(points[1:2]))
    torch.testing.assert_close(grid.gather(pixels)[1:2], grid.gather(pixels[1:2]))


def test_points_climb_to_their_top() -> None:
    points = torch.zeros(2, 7, 9)
    points[0, 3, 1:6] = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.5])
    points[1, 0, 0] = points[1, 0, 1] = 4.0  # a plateau
    top, hill = hills(points, 1)
    assert top.tolist() == [3 * 9 + 3, 3 * 9 + 5, 63]
    assert hill.tolist() == [0, 0, 0, 0, 1, 2, 2] or hill.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert len(hills(points, 2)[0]) == 2


def test_crowds_are_joined_a_few_pairs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 3, (90,), generator=generator).sort()[0]
    place, light = 20 * torch.rand(90, 2, generator=generator), 1000 * torch.rand(90, generator=generator)
    crowd = Spots(frame, place, light, torch.full((90,), 0.01))
    whole = crowd.joined(1.3, 2.0)
    assert len(whole.frame) < 80
    monkeypatch.setattr("denseloc.localize.spots.PAIRS", 100)
    parts = crowd.joined(1.3, 2.0)
    for name, values in vars(whole).items():
        assert torch.equal(getattr(parts, name), values), name


def test_pairs_are_joined_where_one_emitter_looks_alike() -> None:
    def left(distance: float, brightness: float) -> Spots:
        place = torch.tensor([[5.0, 5.0], [5.0, 5.0 + distance], [20.0, 20.0], [5.0, 5.0]])
        light = torch.tensor([300.0, 100.0, 700.0, 50.0])
        return Spots(torch.tensor([0, 0, 0, 1]), place, light, torch.full((4,), brightness)).joined(1.3, 2.0)

    one = left(0.8, 0.03)
    assert one.frame.tolist() == [0, 0, 1]
    assert one.photons.tolist() == [400, 700, 50]
    torch.testing.assert_close(one.place[0], torch.tensor([5.0, 5.2]))
    assert len(left(0.8, 0.3).frame) == 4  # brighter over the noise
    assert len(left(3.0, 0.03).frame) == 4


@pytest.mark.parametrize("distance", [2.0, 3.0, 9.0])
def test_points_far_apart_are_not_joined_however_dim(distance: float) -> None:
    place = torch.tensor([[5.0, 5.0], [5.0, 5.0 + distance]])
    spots = Spots(torch.tensor([0, 0]), place, torch.tensor([300.0, 0.1]), torch.full((2,), 0.03)).joined(1.3, 2.0)
    assert torch.equal(spots.place, place)
    assert spots.photons.tolist() == pytest.approx([300.0, 0.1])


# ------------------------------------------------------------------------------------------------------------------ localizations


@pytest.mark.parametrize("upsampling", [2, 4, 8])
def test_lone_emitters_are_found_within_a_fraction_of_a_point(upsampling: int) -> None:
    table = cel0(upsampling=upsampling)(frames(X, Y, noise=False))
    assert_found(table, X, Y, atol=4)  # points are 50, 25 and 12.5 nm apart
    np.testing.assert_allclose(table.photons, 2000, rtol=0.02)
    np.testing.assert_allclose(table.background, 10, rtol=0.02)
    assert set(table.columns) == {"frame", "x_nm", "y_nm", "photons", "background"}


def test_lone_emitters_are_found_as_well_as_can_be() -> None:
    """The bound is 3.2 nm an axis."""
    assert_found(cel0()(frames(X, Y)), X, Y, atol=12)


def test_two_emitters_two_pixels_apart_are_two() -> None:
    x, y = [1010.0, 1210.0], [1320.0, 1320.0]
    table = cel0()(frames(x, y, shape=(24, 24)))
    assert_found(table, x, y, atol=25)
    np.testing.assert_allclose(table.photons, 2000, rtol=0.15)
    merged = cel0()(frames([1010.0, 1050.0], y, shape=(24, 24)))
    assert_found(merged, [1030.0], [1320.0], atol=10)  # a third of the width: no light tells them apart


def test_a_crowd_is_told_apart() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = (300 + 2400 * torch.rand(15, generator=generator) for _ in range(2))
    table = cel0()(frames(x.tolist(), y.tolist(), shape=(28, 32)))
    assert 13 <= len(table) <= 15
    np.testing.assert_allclose(table.photons.sum(), 30_000, rtol=0.05)


def test_noise_alone_gives_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    for background in (1.0, 20.0):
        empty = torch.poisson(torch.full((40, 1, 48, 48), background), generator=generator)
        assert len(cel0(background=background)(Frames(empty, PIXEL_NM))) == 0


def test_a_wrong_or_uneven_background_is_followed() -> None:
    for told in (7.0, 14.0):
        table = cel0(background=told)(frames(X, Y, noise=False))
        assert_found(table, X, Y, atol=6)
        np.testing.assert_allclose(table.background, 10, rtol=0.03)
    slope = torch.linspace(5, 60, 30).expand(24, 30)
    movie = frames(X, Y, background=0.0, noise=False)
    sloped = dataclasses.replace(movie, photons=movie.photons + slope + 3, background=slope)
    assert_found(cel0()(sloped), X, Y, atol=6)


def test_a_higher_significance_finds_fewer() -> None:
    movie = frames(X, Y, photons=150.0)
    found = [len(cel0(significance=s)(movie)) for s in (3.0, 40.0)]
    assert found[0] >= len(X)
    assert found[1] == 0


@pytest.mark.parametrize("still", [True, False])
def test_noisy_pixels_are_no_emitters(still: bool) -> None:
    movie = frames(X, Y)
    variance = torch.full((1, 1, 24, 30), 1.0)
    variance[0, 0, 20, 5] = variance[0, 0, 6, 16] = 4e4  # the second in the light of an emitter
    hot = movie.photons.clone()
    hot[0, 0, 20, 5], hot[0, 0, 6, 16] = 400.0, 500.0
    assert len(cel0()(dataclasses.replace(movie, photons=hot))) > len(X)
    told = variance[0, 0] if still else variance.expand(2, 1, 24, 30)
    both = hot if still else hot.expand(2, 1, 24, 30)
    table = cel0()(dataclasses.replace(movie, photons=both, variance=told), (0, 1))
    assert_found(table, X, Y, atol=15)
    np.testing.assert_allclose(table.photons, 2000, rtol=0.1)


def test_noise_behind_an_em_register_counts() -> None:
    movie = frames(X, Y, photons=200.0)
    assert len(cel0(excess=1.0, significance=6.0)(movie)) > len(cel0(excess=4.0, significance=6.0)(movie))


def test_l1_alone_finds_lone_emitters() -> None:
    table = cel0(penalty="l1")(frames(X, Y, noise=False))
    assert_found(table, X, Y, atol=6)
    np.testing.assert_allclose(table.photons, 2000, rtol=0.03)  # the price is not paid in light


def test_emitters_beside_the_field_are_left_out() -> None:
    x, y = [530.0, -60.0, 3060.0], [1040.0, 1300.0, 1650.0]
    assert_found(cel0()(frames(x, y, noise=False)), x[:1], y[:1], atol=6)


def test_a_psf_that_is_no_product_is_drawn_as_it_is() -> None:
    table = cel0(psf=PUPIL, z_nm=0.0)(frames(X, Y, PUPIL))
    assert_found(table, X, Y, atol=15)


def test_two_planes_share_one_gaussian() -> None:
    movie = frames(X, Y, noise=False)
    two = dataclasses.replace(movie, photons=(movie.photons / 2).expand(-1, 2, -1, -1))
    table = cel0(planes=2, background=5.0)(two)
    assert_found(table, X, Y, atol=6)
    np.testing.assert_allclose(table.photons, 2000, rtol=0.03)


# --------------------------------------------------------------------------------------------------------------------- refusals


def test_a_threshold_on_probabilities_is_refused() -> None:
    localizer = cel0()
    localizer.threshold = 0.5
    with pytest.raises(ModelError, match=r"gives no probabilities.*'significance'"):
        localizer(frames(X, Y))


def test_psfs_that_do_not_suit_are_refused() -> None:
    astigmatic = AstigmaticSettings(width_nm=WIDTH_NM, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=25)
    with pytest.raises(ModelError, match=r"'astigmatic' tells depths.*finds x and y only; set 'z_nm'"):
        cel0(psf=astigmatic)
    with pytest.raises(ModelError, match="the PSF has 2 planes, the frames have 1"):
        cel0(psf=MultiplaneSettings(width_nm=WIDTH_NM, plane_focus_nm=(-250.0, 250.0), depth_nm=350), z_nm=0.0)(frames(X, Y))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"upsampling": 3}, "'upsampling'.*2, 4 or 8"),
        ({"penalty": "l2"}, "'penalty'.*'cel0' or 'l1'"),
        ({"significance": 0}, "'significance'.*greater than 0"),
        ({"signifcance": 4}, "did you mean 'significance'"),
    ],
)
def test_impossible_sections_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        cel0(**change)
