"""PSFs of several colours: the pupil at each wavelength, masks as paths, emitters drawn each in its channel, documents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.camera import Ideal
from denseloc.data import Emitters, Grid
from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.microscope import Microscope
from denseloc.optics import PSF, ColoursPSF, ColoursSettings, GaussianSettings, PupilPSF, PupilSettings
from denseloc.optics.colour_stack import ColourStackPSF
from denseloc.optics.designed_mask import ZernikeMask, designed_mask

PIXEL_NM = (110.0, 100.0)
OPTICS: dict[str, Any] = {
    "wavelength_nm": 600.0,
    "numerical_aperture": 1.2,
    "immersion_index": 1.33,
    "model": "scalar",
    "pupil_px": 32,
}
RAD = np.linspace(-1.2, 1.5, 20)[:, None] * np.linspace(-1.0, 1.0, 20)
PLACES = torch.tensor([[0.1, -0.3], [0.4, 0.0], [-0.5, 0.2]])
DEPTHS = torch.tensor([-200.0, 50.0, 180.0])


def colours(wavelengths_nm: tuple[float, ...] = (600.0, 690.0), optics: dict[str, Any] | None = None, **more: Any) -> ColoursPSF:
    values = {"kind": "colours", "roi_px": 13, "wavelengths_nm": wavelengths_nm, "optics": {**OPTICS, **(optics or {})}, **more}
    return parse(ColoursSettings, values, "example").build(PIXEL_NM)


def pupil(wavelength_nm: float, **optics: Any) -> PupilPSF:
    return PupilSettings(**{**OPTICS, "roi_px": 13, "wavelength_nm": wavelength_nm, **optics}).build(PIXEL_NM)


def same(one: PSF, other: PSF, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(one(PLACES, DEPTHS), other(PLACES, DEPTHS), rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(
    "optics",
    [
        {},
        {"zernike_nm": (0.0,) * 5 + (50.0,)},
        {"mask": {"kind": "zernike", "rms_nm": (0.0,) * 5 + (70.0,)}},
        {"medium_index": 1.3},
    ],
)
def test_a_channel_is_the_pupil_at_its_wavelength(optics: dict[str, Any]) -> None:
    made = colours(optics=optics)
    assert made.channels == made.settings.channels == 2
    for number, wavelength in enumerate((600.0, 690.0)):
        same(made.in_channel(number), pupil(wavelength, **optics))


@pytest.mark.parametrize("where", ["mask", "phase"])
def test_phases_in_rad_are_paths(where: str) -> None:
    def optics(factor: float) -> dict[str, Any]:
        return {"phase": factor * RAD} if where == "phase" else {"mask": {"kind": "array", "values": factor * RAD}}

    made = colours(optics=optics(1.0))
    same(made.in_channel(0), pupil(600.0, **optics(1.0)))
    same(made.in_channel(1), pupil(690.0, **optics(600 / 690)), rtol=5e-3)  # an array is interpolated as a phasor
    unscaled = pupil(690.0, **optics(1.0))(PLACES, DEPTHS)
    assert (made.in_channel(1)(PLACES, DEPTHS) - unscaled).abs().max() > 0.02 * unscaled.max()


def test_dispersion_is_a_factor_on_the_path() -> None:
    mask = {"mask": {"kind": "zernike", "rms_nm": (0.0,) * 5 + (70.0,)}}
    same(
        colours(optics=mask, mask_path=(1.0, 0.9)).in_channel(1),
        pupil(690.0, mask={"kind": "zernike", "rms_nm": (0.0,) * 5 + (63.0,)}),
    )


def test_a_modulator_wraps_at_the_wavelength_of_the_section_only() -> None:
    mask = {"mask": {"kind": "zernike", "rms_nm": (0.0,) * 5 + (250.0,)}}
    smooth, wrapped = colours(optics=mask), colours(optics=mask, mask_wraps=True)
    same(smooth.in_channel(0), wrapped.in_channel(0))
    drawn, other = (one.in_channel(1)(PLACES, DEPTHS) for one in (smooth, wrapped))
    assert (drawn - other).abs().max() > 0.05 * drawn.max()


def test_a_channel_has_a_section_of_its_own() -> None:
    made = colours(optics={"mask": {"kind": "array", "values": RAD}, "phase": 0.5 * RAD.T, "zernike_nm": (0.0,) * 5 + (30.0,)})
    section = made.in_channel(1).described()
    assert isinstance(section, PupilSettings)
    assert section.wavelength_nm == pytest.approx(690.0)
    same(section.build(PIXEL_NM), made.in_channel(1))


def test_a_finer_pupil_keeps_wavelength_and_path() -> None:
    part = colours(optics={"mask": {"kind": "zernike", "rms_nm": (0.0,) * 5 + (70.0,)}}).in_channel(1)
    assert isinstance(part, PupilPSF)
    finer = part.finer(64)
    assert finer.settings.pupil_px == 64
    same(finer, part, rtol=0.05)


def test_pupils_of_one_optics_share_their_aberrations() -> None:
    made = colours(optics={"zernike_nm": (0.0,) * 5 + (30.0,)})
    assert sorted(name for name, _ in made.named_parameters()) == [
        "parts.0.wavelength_nm",
        "parts.0.zernike_nm",
        "parts.1.wavelength_nm",
    ]


# -------------------------------------------------------------------------------------------------------------------- the camera


def crowd() -> Emitters:
    generator = torch.Generator().manual_seed(4)
    u = torch.rand(4, 30, generator=generator)
    return Emitters.of(
        frame=torch.randint(0, 3, (30,), generator=generator),
        x_nm=u[0] * 1500,
        y_nm=u[1] * 1800,
        z_nm=(u[2] - 0.5) * 400,
        photons=500 + 2000 * u[3],
        channel=torch.randint(0, 2, (30,), generator=generator),
    )


@pytest.mark.parametrize("scaled", [False, True])
def test_the_camera_sees_the_sum_of_the_channels(scaled: bool) -> None:
    made, grid, emitters = colours(), Grid((17, 15), PIXEL_NM), crowd()
    scale = torch.linspace(0.8, 1.2, 30) if scaled else None
    frames = Microscope(made, Ideal(), grid).expected(emitters, torch.full((3, 1, 17, 15), 2.0), scale)
    parts = torch.zeros(3, 1, 17, 15)
    for number, wavelength in enumerate((600.0, 690.0)):
        here = emitters.channel == number
        microscope = Microscope(pupil(wavelength), Ideal(), grid)
        parts += microscope.expected(emitters.select(here), torch.zeros(3, 1, 17, 15), None if scale is None else scale[here])
    torch.testing.assert_close(frames, parts + 2, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        fast = Microscope(made, Ideal(), grid).expected(emitters, torch.full((3, 1, 17, 15), 2.0), scale)
    torch.testing.assert_close(fast, frames, rtol=1e-4, atol=1e-3)


def test_an_emitter_of_unknown_colour_is_the_mean() -> None:
    made = colours()
    expected = (made.in_channel(0)(PLACES, DEPTHS) + made.in_channel(1)(PLACES, DEPTHS)) / 2
    torch.testing.assert_close(made(PLACES, DEPTHS), expected)


def test_channels_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"emitters in channels 0 \.\. 2; expected 0 \.\. 1"):
        colours().in_channels(torch.tensor([0, 2, 1]), PLACES, DEPTHS)
    with pytest.raises(ValueError, match="channel 1 of a PSF of one colour"):
        pupil(600.0).in_channel(1)
    assert len(colours().in_channels(torch.zeros(0, dtype=torch.long), PLACES[:0], DEPTHS[:0])) == 0


# ------------------------------------------------------------------------------------------------------------------- the design


def stack(**more: Any) -> ColourStackPSF:
    made = colours(**more)
    first = made.in_channel(0)
    assert isinstance(first, PupilPSF)
    mask = designed_mask(first, "zernike", 4, torch.Generator().manual_seed(1), 0.8)
    return ColourStackPSF(made, mask, (-200.0, 200.0), 50.0)


def test_stacks_are_the_pupils_with_the_mask() -> None:
    made = stack(mask_path=(1.0, 0.95))
    whole = colours(optics={"mask": made.mask.section().model_dump()}, mask_path=(1.0, 0.95))
    channel = torch.tensor([0, 1, 1])
    found, expected = (psf.in_channels(channel, PLACES, DEPTHS).detach() for psf in (made, whole))
    assert (found - expected).abs().max() < 0.02 * expected.max()
    baked = made.spline().build(PIXEL_NM)
    torch.testing.assert_close(baked.in_channels(channel, PLACES, DEPTHS).detach(), found, rtol=1e-3, atol=1e-6)


def test_gradients_of_all_channels_reach_the_one_mask() -> None:
    made = stack()
    assert isinstance(made.mask, ZernikeMask)
    gradients = []
    for number in range(2):
        made.renew()
        image = made.in_channels(torch.full((3,), number), PLACES, DEPTHS)
        (gradient,) = torch.autograd.grad(image.square().sum(), made.mask.amplitudes)
        assert gradient.abs().max() > 0
        gradients.append(gradient)
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-2)


# ------------------------------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optics": None}, r"\[psf.optics\] with wavelengths_nm, or \[\[psf.channel\]\] for each colour \(found neither\)"),
        ({"channel": [{"kind": "gaussian", "width_nm": 100.0}] * 2}, "found both"),
        ({"wavelengths_nm": None}, "wavelengths_nm is missing"),
        ({"wavelengths_nm": (600.0,)}, "1 channel; colours are 2 to 8"),
        ({"wavelengths_nm": (600.0, 0.69)}, "expected nm"),
        ({"mask_path": (1.0,)}, "factor near 1 for each of 2 channels"),
        ({"optics": {**OPTICS, "roi_px": 21}}, r"roi_px of all channels stands in \[psf\]"),
        ({"wavelength_nm": 600.0}, "unknown key 'wavelength_nm' .did you mean 'wavelengths_nm'"),
        ({"channel": [{"kind": "colours"}] * 2, "optics": None}, "unknown PSF of a channel 'colours'"),
    ],
)
def test_impossible_colours_are_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    values = {"kind": "colours", "roi_px": 13, "wavelengths_nm": (600.0, 690.0), "optics": OPTICS, **change}
    with pytest.raises(DocumentError, match=words) as error:
        parse(ColoursSettings, values, "example")
    assert "\n" not in str(error.value)


def test_channels_of_different_planes_are_refused() -> None:
    biplane = {"kind": "multiplane", "width_nm": 130.0, "plane_focus_nm": (-200, 200), "depth_nm": 350.0}
    section = ColoursSettings(channel=[GaussianSettings(width_nm=120.0).model_dump(), biplane])
    with pytest.raises(DocumentError, match="channels of 1, 2 focal planes"):
        section.build(PIXEL_NM)


def test_width_and_depth_are_those_of_the_channels() -> None:
    flat = ColoursSettings(channel=[{"kind": "gaussian", "width_nm": width} for width in (100.0, 140.0)])
    assert flat.width_in_focus_nm() == 120.0
    assert not flat.tells_depth
    made = colours().settings
    assert made.tells_depth
    assert made.width_in_focus_nm() == pytest.approx(pupil(645.0).settings.width_in_focus_nm())
    assert math.isclose(ColoursSettings.model_validate_json(made.model_dump_json()).width_in_focus_nm(), made.width_in_focus_nm())
