"""Phase masks: what their images do with depth, and where an array of phases comes to lie."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.optics import PupilSettings
from denseloc.optics.masks import MASKS, ArrayMaskSettings, MaskSettings

WATER = {
    "wavelength_nm": 670.0,
    "numerical_aperture": 1.2,
    "immersion_index": 1.33,
    "roi_px": 51,
    "pupil_px": 72,
    "model": "scalar",
}
CELLS = (torch.arange(64, dtype=torch.float64) - 31.5) / 32
AT = torch.meshgrid(CELLS, CELLS, indexing="ij")[::-1]  # x along columns, y along rows
INSIDE = AT[0] ** 2 + AT[1] ** 2 <= 1
EXAMPLES = {
    "tetrapod": {"range_nm": 4000.0},
    "saddle_point": {"range_nm": 2500.0},
    "double_helix": {"rings": 6},
    "astigmatism": {"rms_nm": 70.0},
    "zernike": {"rms_nm": (0.0, 0.0, 0.0, 20.0, 0.0, 60.0, 0.0, 0.0, 15.0, 0.0)},
    "array": {"values": np.random.default_rng(1).normal(0, 1, (20, 20)).astype(np.float32), "aperture_px": 15.0},
}


def mask(kind: str, **change: object) -> MaskSettings:
    return parse(MASKS.get(kind), {"kind": kind, **EXAMPLES[kind], **change}, "example")


def images(section: MaskSettings, z_nm: list[float], **change: object) -> np.ndarray:
    psf = PupilSettings(**{**WATER, **change}, mask=section).build((110.0, 110.0))
    return psf(torch.zeros(len(z_nm), 2), torch.tensor(z_nm))[:, 0].detach().numpy()


def moments(image: np.ndarray) -> tuple[float, float, float]:
    """Give the second moments (xx, yy, xy) in px^2 of what is brighter than a third of the peak."""
    bright = (image - image.max() / 3).clip(0)
    at = np.arange(len(image)) - len(image) // 2
    x, y = bright.sum(0) @ at / bright.sum(), bright.sum(1) @ at / bright.sum()
    u, v = at - x, (at - y)[:, None]
    return tuple(float((bright * part).sum() / bright.sum()) for part in (u**2, v**2, u * v))


@pytest.mark.parametrize("kind", MASKS.names())
def test_every_mask_turns_and_travels(kind: str) -> None:
    section = mask(kind)
    settings = PupilSettings(**WATER, mask=section)
    phase = section.phase(*AT, settings)
    assert phase.shape == (64, 64)
    assert torch.isfinite(phase).all()
    assert phase[INSIDE].std() > 0.2
    again = PupilSettings.model_validate_json(settings.model_dump_json()).mask
    assert type(again) is type(section)
    torch.testing.assert_close(again.phase(*AT, settings), phase)
    upright, turned = (images(mask(kind, turn_deg=angle), [700.0])[0] for angle in (0.0, 90.0))
    np.testing.assert_allclose(turned, np.rot90(upright, -1), atol=2e-5 * upright.max() + 1e-8)  # x goes to y, downwards
    assert abs(turned - upright).max() > 0.05 * upright.max()


def test_tetrapod_lobes_run_apart_along_x_beyond_the_focus_and_along_y_before_it() -> None:
    z = [-2000.0, -1200.0, 0.0, 1200.0, 2000.0]
    xx, yy, xy = np.transpose([moments(image) for image in images(mask("tetrapod"), z)])
    assert (abs(xy) < 0.1).all()
    assert xx[2] == pytest.approx(yy[2], rel=0.05)
    assert xx[4] > 1.3 * xx[3] > 10 * yy[3]
    np.testing.assert_allclose(yy[:2], xx[:2:-1], rtol=0.02)
    farthest = images(mask("tetrapod"), z[4:])[0]
    lobe = farthest[25].argmax()
    assert abs(lobe - 25) * 110 > 1000
    assert farthest[25, 25] < 0.75 * farthest.max()  # two lobes, and no streak


def test_a_tetrapod_tells_depths_apart_over_its_range_where_a_plain_pupil_does_not() -> None:
    z = np.linspace(-1900, 1900, 9)

    def bounds(section: MaskSettings | None) -> np.ndarray:
        psf = PupilSettings(**WATER, mask=section).build((110.0, 110.0)).double()
        at = torch.full((9, 2), 0.2, dtype=torch.float64), torch.from_numpy(z)
        values, slopes = psf.with_derivatives(*at)
        jacobian = torch.cat((3500 * slopes, values[:, None], torch.ones_like(values[:, None])), 1).flatten(2)
        information = torch.einsum("nip,njp,np->nij", jacobian, jacobian, 1 / (3500 * values.flatten(1) + 10))
        return torch.linalg.inv(information)[:, 2, 2].sqrt().numpy()

    with_mask, without = bounds(mask("tetrapod")), bounds(None)
    assert with_mask.max() < 30
    assert without[4] > 3 * with_mask[4]
    assert with_mask.max() < without.max() / 2


def test_the_lobes_of_a_double_helix_turn() -> None:
    z = list(np.linspace(-1200.0, 1200.0, 13))
    xx, yy, xy = np.transpose([moments(image) for image in images(mask("double_helix"), z)])
    angle = np.unwrap(np.arctan2(2 * xy, xx - yy)) / 2
    steps = np.diff(np.degrees(angle))
    assert (steps > 2).all() or (steps < -2).all()
    assert abs(steps.sum()) > 60
    spread = xx + yy
    assert spread.max() < 1.5 * spread.min()  # turning, not widening
    fewer = images(mask("double_helix", rings=3), [0.0, 600.0])
    more = images(mask("double_helix", rings=12), [0.0, 600.0])

    def turn(pair: np.ndarray) -> float:
        first, second = (math.degrees(math.atan2(2 * m[2], m[0] - m[1]) / 2) for m in map(moments, pair))
        return abs((second - first + 90) % 180 - 90)

    assert turn(fewer) > 1.5 * turn(more) > 5


def test_one_lobe_makes_a_corkscrew() -> None:
    at = np.arange(51) - 25
    places = [
        np.array([image.sum(0) @ at, image.sum(1) @ at]) for image in images(mask("double_helix", lobes=1), [-800.0, 0.0, 800.0])
    ]
    angles = np.degrees([math.atan2(y, x) for x, y in places])
    turns = (np.diff(angles) + 180) % 360 - 180
    assert turns[0] * turns[1] > 0
    assert min(abs(turns)) > 15


def test_astigmatism_and_the_saddle_are_long_on_the_sides_that_they_say() -> None:
    (xx, yy, _), (before_xx, before_yy, _) = (moments(i) for i in images(mask("astigmatism"), [400.0, -400.0]))
    assert yy > 1.5 * xx
    assert before_xx > 1.5 * before_yy
    (xx, yy, _), (before_xx, before_yy, _) = (moments(i) for i in images(mask("saddle_point"), [1100.0, -1100.0]))
    assert xx > 4 * yy
    assert before_yy > 4 * before_xx


def test_a_mask_that_is_a_way_keeps_it_when_the_wavelength_is_learned() -> None:
    for kind in MASKS.names():
        psf = PupilSettings(**WATER, mask=mask(kind)).build((110.0, 110.0))
        with torch.no_grad():
            psf.wavelength_nm *= 1.1
        again = psf.described().build((110.0, 110.0))
        torch.testing.assert_close(again.pupil(), psf.pupil(), rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------------------- arrays


def test_the_relay_says_which_part_of_the_array_the_aperture_fills() -> None:
    relay = {"aperture_px": None, "pixel_um": 24.0, "focal_length_mm": 150.0, "magnification": 100.0}
    section = mask("array", values=np.zeros((329, 329)), **relay)
    assert isinstance(section, ArrayMaskSettings)
    assert section.radius_px(1.45) == pytest.approx(150 * 1.45 / math.sqrt(100**2 - 1.45**2) / 0.024)
    assert mask("array", aperture_px=None).radius_px(1.2) == 10.0
    ramp = 0.1 * (np.arange(41) - 20.0)  # rad per pixel along the columns
    small = mask("array", values=np.tile(ramp, (41, 1)), aperture_px=20.0)
    phase = small.phase(*AT, PupilSettings(**WATER))
    torch.testing.assert_close(phase[INSIDE], (0.1 * 10.0 * AT[0])[INSIDE], rtol=0, atol=2e-3)


def test_beyond_the_array_the_phase_is_nil_and_wraps_do_not_show() -> None:
    wrapped = np.angle(np.exp(0.9j * np.arange(33)))[None].repeat(33, 0)
    section = mask("array", values=wrapped, aperture_px=48.0)
    phase = section.phase(*AT, PupilSettings(**WATER))
    assert (phase[AT[0].abs() > 0.7] == 0).all()
    inner = (AT[0].abs() < 0.66) & (AT[1].abs() < 0.66)
    expected = torch.exp(1j * 0.9 * (24 * AT[0] + 16))
    assert ((torch.exp(1j * phase) - expected).abs()[inner] < 0.1).all()


def test_matlab_files_are_read_by_name(tmp_path: Path) -> None:
    one, two = np.arange(36.0).reshape(6, 6) / 36, np.ones((5, 4))
    savemat(tmp_path / "one.mat", {"mask": one})
    savemat(tmp_path / "two.mat", {"first": one, "second": two, "name": "x"})
    for source, expected in (("one.mat", one), ("one.mat:mask", one), ("two.mat:second", two)):
        section = mask("array", values=str(tmp_path / source), aperture_px=None)
        np.testing.assert_allclose(section.values, expected, rtol=1e-6)
        np.testing.assert_allclose(MASKS.get("array").model_validate_json(section.model_dump_json()).values, expected, rtol=1e-6)
    np.save(tmp_path / "three.npy", one)
    np.testing.assert_allclose(mask("array", values=str(tmp_path / "three.npy")).values, one, rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("two.mat", "name one array as 'two.mat:NAME'; arrays: first, second"),
        ("two.mat:secnd", "did you mean 'second'"),
        ("none.mat", "cannot read .*none.mat"),
        ("new.mat", "MATLAB 7.3 files are not read; save with -v7"),
        ("text.mat", "cannot read .*text.mat"),
    ],
)
def test_unreadable_matlab_files_are_refused_in_one_line(tmp_path: Path, source: str, words: str) -> None:
    savemat(tmp_path / "two.mat", {"first": np.ones((5, 5)), "second": np.ones((5, 4))})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["mask"] = np.ones((5, 5))
    with open(tmp_path / "new.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    (tmp_path / "text.mat").write_text("nothing of the kind, but long enough to be looked at " * 10)
    with pytest.raises(DocumentError, match=words) as error:
        mask("array", values=str(tmp_path / source))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": np.zeros((5, 5, 5))}, "at least 4 x 4 finite phases .found shape"),
        ({"values": np.full((5, 5), np.nan)}, "finite phases"),
        ({"pixel_um": 24.0}, "together, or aperture_px alone .found pixel_um, aperture_px"),
        ({"aperture_px": None, "pixel_um": 24.0}, "found pixel_um"),
    ],
)
def test_impossible_arrays_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        mask("array", **change)


@pytest.mark.parametrize("file", ["mask_tetrapod.mat:mask_tetra_model", "mask_tetrapod_printed.mat"])
def test_a_published_tetrapod_has_perpendicular_lobes(shared: Path, file: str) -> None:
    folder = shared / "data" / "DeepSTORM3D" / "masks"
    if not folder.is_dir():
        pytest.skip("the phase masks are not beside this checkout")
    printed = "printed" in file
    relay = {"pixel_um": 30.0 if printed else 24.0, "focal_length_mm": 100.0 if printed else 150.0, "magnification": 100.0}
    section = mask("array", values=str(folder / file), aperture_px=None, **relay)
    optics = {"numerical_aperture": 1.45, "immersion_index": 1.518, "medium_index": 1.33, "roi_px": 61, "pupil_px": 128}
    heights = [0.0, 4000.0] if printed else [2000.0, 6000.0]
    change = {**optics, "wavelength_nm": 670.0 if printed else 580.0, "focal_plane_nm": 1500.0 if printed else 4500.0}
    low, high = (moments(image) for image in images(section, heights, **change))
    angles = [0.5 * math.atan2(2 * xy, xx - yy) for xx, yy, xy in (low, high)]
    apart = math.degrees(abs(angles[0] - angles[1])) % 180
    assert apart == pytest.approx(90, abs=12)
    for xx, yy, xy in (low, high):
        root = math.hypot((xx - yy) / 2, xy)
        assert (xx + yy) / 2 + root > 8 * ((xx + yy) / 2 - root)
        assert (xx + yy) / 2 + root > (500 / 110) ** 2
