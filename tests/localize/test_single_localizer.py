"""The classical localizer: what it finds, where, and what it leaves out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from denseloc.camera import Ideal
from denseloc.data import Emitters, Frames, Grid, Localizations
from denseloc.description import parse
from denseloc.errors import DocumentError, ModelError
from denseloc.localize import InputConditions, Scales, Single, SingleSettings
from denseloc.localize.single import maxima
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, DoubleHelixSettings, GaussianSettings, MultiplaneSettings, PSFSettings

PIXEL_NM = (110.0, 100.0)
WIDTH_NM = 135.0
GAUSSIAN = GaussianSettings(width_nm=WIDTH_NM, roi_px=21)


def single(excess: float = 1.0, noise: float = 0.0, planes: int = 1, z_unit_nm: float = 0.0, **settings: object) -> Single:
    conditions = InputConditions(10.0, excess, noise, WIDTH_NM / (PIXEL_NM[0] * PIXEL_NM[1]) ** 0.5)
    values = parse(SingleSettings, {"kind": "single", **settings}, "example")
    return values.build(Scales(PIXEL_NM, z_unit_nm, 1000.0, planes, conditions))


def frames(
    x_nm: list[float],
    y_nm: list[float],
    z_nm: float = 0.0,
    psf: PSFSettings = GAUSSIAN,
    shape: tuple[int, int] = (40, 50),
    noise: bool = True,
) -> Frames:
    """Draw one frame with emitters of 2000 photons; without noise, the expected light."""
    x, y = torch.tensor(x_nm), torch.tensor(y_nm)
    emitters = Emitters.of(torch.zeros(len(x), dtype=torch.long), x, y, torch.full((len(x),), 2000.0), torch.full((len(x),), z_nm))
    microscope = Microscope(psf.build(PIXEL_NM), Ideal(), Grid(shape, PIXEL_NM))
    with torch.no_grad():
        light = microscope.expected(emitters, torch.full((1, 1, *shape), 10.0))
    generator = torch.Generator().manual_seed(5)
    return Frames(torch.poisson(light, generator=generator) if noise else light, PIXEL_NM)


def assert_found(table: Localizations, x_nm: list[float], y_nm: list[float], atol: float) -> None:
    assert len(table) == len(x_nm)
    order, expected = np.lexsort((table.x_nm, table.y_nm)), np.lexsort((x_nm, y_nm))
    np.testing.assert_allclose(table.x_nm[order], np.array(x_nm)[expected], atol=atol)
    np.testing.assert_allclose(table.y_nm[order], np.array(y_nm)[expected], atol=atol)


X, Y = [530.0, 2011.0, 3300.0, 4420.0, 1200.0], [1040.0, 560.0, 2255.0, 3900.0, 3333.0]


def test_positions_are_exact_without_noise() -> None:
    table = single()(frames(X, Y, noise=False))
    assert_found(table, X, Y, atol=0.5)
    np.testing.assert_allclose(table.photons, 2000, rtol=0.01)
    np.testing.assert_allclose(table.background, 10, rtol=0.02)


def test_columns_are_those_that_a_fit_knows() -> None:
    table = single()(frames(X, Y))
    assert_found(table, X, Y, atol=20)
    assert set(table.columns) == {
        *("frame", "x_nm", "y_nm", "photons", "background", "log_likelihood"),
        *("sigma_x_nm", "sigma_y_nm", "sigma_photons", "crlb_x_nm", "crlb_y_nm"),
    }
    np.testing.assert_array_equal(table.sigma_x_nm, table.crlb_x_nm)
    assert ((table.sigma_x_nm > 2) & (table.sigma_x_nm < 6)).all()


def test_emitters_at_the_border_are_found() -> None:
    x, y = [20.0, 4980.0, 2500.0, 2510.0], [2200.0, 2210.0, 15.0, 4390.0]
    assert_found(single()(frames(x, y, noise=False)), x, y, atol=1.0)


def test_emitters_beside_the_field_are_left_out() -> None:
    x, y = [530.0, -60.0, 5030.0], [1040.0, 2300.0, 3300.0]
    assert_found(single()(frames(x, y, noise=False)), x[:1], y[:1], atol=1.0)


def test_an_emitter_between_two_equal_pixels_is_found_once() -> None:
    table = single()(frames([2000.0], [2200.0], noise=False))  # a corner of pixels: four are equally bright
    assert_found(table, [2000.0], [2200.0], atol=0.1)


def test_equal_maxima_count_once_and_near_ones_fall() -> None:
    score = torch.zeros(9, 12)
    score[1, 3] = score[1, 4] = score[2, 3] = 7.0  # a plateau
    score[7, 10], score[5, 10] = 8.0, 7.0
    score[8, 1], score[5, 1] = 6.0, 6.5
    score[0, 8] = 4.0
    assert maxima(score, 5.0, 2).tolist() == [[1, 3], [5, 1], [7, 10], [8, 1]]
    assert maxima(score, 5.0, 1).tolist() == [[1, 3], [5, 1], [5, 10], [7, 10], [8, 1]]
    assert maxima(torch.ones(1, 1), 0.5, 3).tolist() == [[0, 0]]


def test_noise_alone_gives_nearly_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    for background in (1.0, 20.0):
        empty = torch.poisson(torch.full((60, 1, 64, 64), background), generator=generator)
        assert len(single()(Frames(empty, PIXEL_NM))) <= 4  # of a quarter of a million pixels


def test_a_higher_significance_finds_fewer() -> None:
    movie = frames(X, Y)
    assert len(single(significance=300.0)(movie)) == 0
    assert len(single(significance=2.0)(movie)) > len(X)


def test_images_that_do_not_fit_can_be_left_out() -> None:
    x, y = [1000.0, 3000.0, 3230.0], [2000.0, 2000.0, 2000.0]  # one alone, two that look like one
    movie = frames(x, y)
    assert len(single()(movie)) == 2
    table = single(least_p_value=1e-4)(movie)
    assert_found(table, [1000.0], [2000.0], atol=20)


def test_an_astigmatic_psf_tells_depths() -> None:
    psf = AstigmaticSettings(width_nm=WIDTH_NM, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=25)
    for z in (-200.0, 150.0):
        table = single(psf=psf.model_dump(mode="json"), z_unit_nm=500.0)(frames(X[1:], Y[1:], z, psf, noise=False))
        assert_found(table, X[1:], Y[1:], atol=1.0)
        np.testing.assert_allclose(table.z_nm, z, atol=3)
        assert {"sigma_z_nm", "crlb_z_nm"} <= set(table.columns)


def test_both_lobes_of_a_double_helix_are_one_emitter() -> None:
    psf = DoubleHelixSettings(width_nm=140, separation_nm=700, turn_deg_per_um=80, roi_px=25)
    x, y = [1300.0, 3600.0], [1500.0, 2900.0]
    for z in (-400.0, 0.0, 300.0):
        table = single(psf=psf, z_range_nm=(-600.0, 600.0))(frames(x, y, z, psf))
        assert_found(table, x, y, atol=25)
        np.testing.assert_allclose(table.z_nm, z, atol=40)


def test_a_free_width_becomes_a_column() -> None:
    wide = GAUSSIAN.model_copy(update={"width_nm": 160.0})
    table = single(free_width=True)(frames(X, Y, psf=wide, noise=False))
    assert_found(table, X, Y, atol=0.5)
    np.testing.assert_allclose(table.width_nm, 160.0, rtol=0.01)
    assert "sigma_width_nm" not in table


def test_two_planes_without_a_psf_share_one_gaussian() -> None:
    movie = frames(X, Y, noise=False)
    two = dataclasses.replace(movie, photons=(movie.photons / 2).expand(-1, 2, -1, -1))
    table = single(planes=2)(two)
    assert_found(table, X, Y, atol=0.5)
    np.testing.assert_allclose(table.photons, 2000, rtol=0.01)
    assert not table.is_3d


def test_two_planes_with_their_psf_tell_depths() -> None:
    psf = MultiplaneSettings(width_nm=WIDTH_NM, plane_focus_nm=(-250.0, 250.0), depth_nm=350, roi_px=25)
    table = single(psf=psf, planes=2, z_unit_nm=500.0)(frames(X[1:], Y[1:], 120.0, psf, noise=False))
    assert_found(table, X[1:], Y[1:], atol=1.0)
    np.testing.assert_allclose(table.z_nm, 120, atol=3)


@pytest.mark.parametrize("still", [True, False])
def test_noisy_pixels_are_no_emitters(still: bool) -> None:
    movie = frames(X, Y)
    variance = torch.full((1, 1, 40, 50), 1.0)
    variance[0, 0, 30, 20] = variance[0, 0, 10, 40] = 4e4
    hot = movie.photons.clone()
    hot[0, 0, 30, 20], hot[0, 0, 10, 40] = 400.0, 500.0
    told = variance[0, 0] if still else variance
    assert len(single()(dataclasses.replace(movie, photons=hot))) == len(X) + 2
    assert_found(single()(dataclasses.replace(movie, photons=hot, variance=told)), X, Y, atol=20)


def test_conditions_of_an_em_camera_count() -> None:
    movie = frames(X, Y)
    plain, em = single()(movie), single(excess=2.0)(movie)
    np.testing.assert_allclose(em.sigma_x_nm / plain.sigma_x_nm, 2**0.5, rtol=0.05)
    noisy = single(noise=10.0)(movie)
    assert (noisy.sigma_x_nm > plain.sigma_x_nm).all()


def test_a_window_can_be_chosen() -> None:
    movie = frames(X, Y)
    small, large = single(window_px=7)(movie), single(window_px=15)(movie)
    assert small.sigma_x_nm.mean() > 1.01 * large.sigma_x_nm.mean()
    assert_found(small, X, Y, atol=20)


def test_a_threshold_on_probabilities_is_refused() -> None:
    localizer = single()
    localizer.threshold = 0.5
    with pytest.raises(ModelError, match=r"gives no probabilities.*'significance'"):
        localizer(frames(X, Y))


def test_a_psf_for_other_planes_is_refused() -> None:
    with pytest.raises(ModelError, match="the PSF has 1 planes, the frames have 2"):
        single(psf=GAUSSIAN)(Frames(torch.zeros(1, 2, 9, 9), PIXEL_NM))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window_px": 8}, "window_px must be odd \\(found 8\\)"),
        ({"significance": 0}, "'significance'.*greater than 0"),
        ({"z_range_nm": (300, -300)}, "z_range_nm must run from low to high"),
        ({"psf": {"kind": "gaussain"}}, "did you mean 'gaussian'"),
        ({"signifcance": 4}, "did you mean 'significance'"),
    ],
)
def test_impossible_sections_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        single(**change)


def test_widths_at_an_angle_become_columns() -> None:
    wide = AstigmaticSettings(width_nm=130, width_ratio=1.4, focus_a_nm=0, focus_b_nm=0, depth_nm=1e6, angle_deg=25, roi_px=25)
    movie = frames(X, Y, psf=wide, noise=False)
    table = single(free_width="rotated")(movie)
    assert_found(table, X, Y, atol=0.5)
    np.testing.assert_allclose(table.width_x_nm, 130, rtol=0.01)
    np.testing.assert_allclose(table.width_y_nm, 182, rtol=0.01)
    np.testing.assert_allclose(table.angle_deg, 25, atol=0.5)
    straight = single(free_width="xy")(movie)
    assert {"width_x_nm", "width_y_nm"} <= set(straight.columns)
    assert not {"angle_deg", "width_nm", "sigma_width_x_nm"} & set(straight.columns)


def test_widths_of_a_psf_that_has_none_are_refused_at_once() -> None:
    helix = DoubleHelixSettings(width_nm=140, separation_nm=700, turn_deg_per_um=80, roi_px=25)
    with pytest.raises(ModelError, match="free_width 'rotated': two widths and an angle of DoubleHelixPSF"):
        single(free_width="rotated", psf=helix)
    with pytest.raises(DocumentError, match="free_width"):
        single(free_width="both")


def test_least_squares_say_more_than_the_bound() -> None:
    table = single(estimator="least_squares")(frames(X, Y))
    assert_found(table, X, Y, atol=20)
    assert ((table.sigma_x_nm > 1.05 * table.crlb_x_nm) & (table.sigma_x_nm < 2 * table.crlb_x_nm)).all()
