"""What every PSF on the shelf keeps to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shelf_examples import example_of

from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.optics import PSF, PSFS, PSFSettings, ResidualMaps

PIXEL_NM = (110.0, 100.0)

ACROSS = (np.arange(48) - 23.5) / 24
SOFT = np.exp(-6 * ACROSS[:, None] ** 2 - 6 * ACROSS**2)
"""A pupil that fades out, so that no light falls far beside the centre as the rings of a hard aperture do."""


def bumps(planes: int, depths: int, nodes_per_px: int) -> np.ndarray:
    """Coefficients of a spline that is nowhere negative and sums to 1: Gaussians whose two widths change with depth."""
    node = np.arange(-15 * nodes_per_px, 15 * nodes_per_px + 1) / nodes_per_px
    u = np.linspace(-1, 1, depths)[:, None]
    lines = [np.exp(-0.5 * (node / (1.3 * np.sqrt(1 + (u - shift) ** 2))) ** 2) for shift in (0.4, -0.4)]
    rows, columns = (nodes_per_px * line / line.sum(1, keepdims=True) for line in lines)
    return np.stack([rows[:, :, None] * columns[:, None, :] / planes] * planes)


EXAMPLES = {
    "gaussian": {"flat": {"width_nm": 130.0}, "deep": {"width_nm": 130.0, "depth_nm": 400.0, "focus_nm": 30.0}},
    "two_gaussian": {"": {"width_1_nm": 80.0, "width_2_nm": 150.0, "weight_1": 0.6, "z_unit_nm": 300.0}},
    "astigmatic": {
        angle: {
            "width_nm": 130.0,
            "width_ratio": 1.15,
            "focus_a_nm": 250.0,
            "focus_b_nm": -220.0,
            "depth_nm": 380.0,
            "cubic": 0.05,
            "quartic": 0.1,
            "angle_deg": float(angle),
        }
        for angle in ("0", "33")
    },
    "double_helix": {"": {"width_nm": 140.0, "separation_nm": 700.0, "turn_deg_per_um": 55.0, "angle_deg": 15.0, "balance": 0.45}},
    "multiplane": {
        "biplane": {"width_nm": 130.0, "plane_focus_nm": (-250.0, 250.0), "depth_nm": 350.0, "shift_nm": ((0, 0), (30.0, -20.0))},
        "quad": {
            "width_nm": 133.0,
            "plane_focus_nm": (-600.0, -200.0, 200.0, 600.0),
            "transmission": (0.3, 0.2, 0.25, 0.25),
            "depth_nm": 302.0,
            "cubic": 7.37e-4,
            "quartic": 6.27e-3,
        },
    },
    "spline": {
        "flat": {"coefficients": bumps(1, 1, 1), "z_min_nm": 0.0, "z_step_nm": 1.0, "pixel_size_nm": PIXEL_NM},
        "deep": {
            "coefficients": bumps(2, 11, 2),
            "z_min_nm": -400.0,
            "z_step_nm": 100.0,
            "nodes_per_px": 2,
            "pixel_size_nm": PIXEL_NM,
        },
    },
    "pupil": {
        "mask": {
            "wavelength_nm": 650.0,
            "numerical_aperture": 1.1,
            "immersion_index": 1.33,
            "model": "scalar",
            "zernike_nm": (0.0, 0.0, 0.0, 10.0, 0.0, 60.0),
            "mask": {"kind": "astigmatism", "rms_nm": 30.0, "turn_deg": 20.0},
            "amplitude": SOFT,
            "blur_nm": 25.0,
        },
        "vectorial": {
            "wavelength_nm": 650.0,
            "numerical_aperture": 1.25,
            "depth_nm": 800.0,
            "phase": 0.4 * np.sin(3 * ACROSS + 0.3)[:, None] * np.cos(2 * ACROSS - 0.5),
            "amplitude": SOFT,
            "bead_diameter_nm": 40.0,
            "pupil_px": 48,
        },
    },
    "field": {
        "": {
            "pupil": {
                "kind": "pupil",
                "wavelength_nm": 650.0,
                "numerical_aperture": 1.1,
                "immersion_index": 1.33,
                "model": "scalar",
                "zernike_nm": (0.0, 0.0, 0.0, 10.0, 0.0, 60.0),
                "amplitude": SOFT,
            },
            "zernike_maps_nm": np.random.default_rng(1).normal(0, 20, (10, 3, 4)),
            "field_nm": (20_000.0, 25_000.0),
        }
    },
    "planes": {
        "biplane": {
            "plane": [
                {"psf": {"kind": "gaussian", "width_nm": 130.0, "depth_nm": 350.0, "focus_nm": -250.0}, "transmission": 0.6},
                {
                    "psf": {"kind": "gaussian", "width_nm": 140.0, "depth_nm": 350.0, "focus_nm": 250.0},
                    "transmission": 0.4,
                    "affine": ((1.01, 0.003, 4.0), (-0.002, 0.99, -2.5)),
                },
            ],
        },
        "different": {
            "plane": [
                {
                    "psf": {
                        "kind": "astigmatic",
                        "width_nm": 130.0,
                        "focus_a_nm": 250.0,
                        "focus_b_nm": -220.0,
                        "depth_nm": 380.0,
                    },
                    "transmission": 0.5,
                },
                {
                    "psf": {
                        "kind": "spline",
                        "coefficients": bumps(1, 11, 2),
                        "z_min_nm": -400.0,
                        "z_step_nm": 100.0,
                        "nodes_per_px": 2,
                        "pixel_size_nm": PIXEL_NM,
                    },
                    "transmission": 0.5,
                },
            ],
        },
    },
    "colours": {
        "pupil": {
            "optics": {
                "wavelength_nm": 600.0,
                "numerical_aperture": 1.1,
                "immersion_index": 1.33,
                "model": "scalar",
                "zernike_nm": (0.0, 0.0, 0.0, 10.0, 0.0, 60.0),
                "mask": {"kind": "array", "values": 0.7 * np.sin(2 * ACROSS)[:, None] * np.cos(3 * ACROSS)},
                "phase": 0.4 * np.sin(3 * ACROSS + 0.3)[:, None] * np.cos(2 * ACROSS - 0.5),
                "amplitude": SOFT,
            },
            "wavelengths_nm": (580.0, 670.0),
            "mask_path": (1.0, 0.97),
        },
        "measured": {
            "channel": [
                {"kind": "gaussian", "width_nm": 120.0, "depth_nm": 350.0},
                {"kind": "astigmatic", "width_nm": 140.0, "focus_a_nm": 250.0, "focus_b_nm": -220.0, "depth_nm": 380.0},
            ],
        },
    },
}
"""Several settings of a kind; a kind that is not here is tested with the examples of its section's keys."""

SHELF = [pytest.param(kind, name, id=f"{kind} {name}".strip()) for kind in PSFS.names() for name in EXAMPLES.get(kind, {"": {}})]


def section(kind: str, name: str, **change: object) -> PSFSettings:
    values = {"kind": kind, **EXAMPLES[kind][name]} if kind in EXAMPLES else example_of(PSFS.get(kind))
    return parse(PSFS.get(kind), {**values, **change}, "example")


def maps_for(settings: PSFSettings, planes: int, nodes_per_px: int, depths: int = 4) -> ResidualMaps:
    """Bumpy maps, so that a wrong node shows."""
    side = nodes_per_px * settings.roi_px + 1
    shape = (depths, side, side) if planes == 1 else (planes, depths, side, side)
    values = np.random.default_rng(3).normal(0, 1e-3, shape).astype(np.float32)
    return ResidualMaps(values=values, z_min_nm=-300.0, z_step_nm=200.0, nodes_per_px=nodes_per_px)


def with_maps(settings: PSFSettings, nodes_per_px: int) -> PSF:
    if settings.kind in ("spline", "field", "planes", "colours"):
        pytest.skip(f"a PSF of kind {settings.kind} carries no residual maps")
    planes = settings.build(PIXEL_NM).planes
    return settings.model_copy(update={"residual_maps": maps_for(settings, planes, nodes_per_px)}).build(PIXEL_NM)


def places(n: int, dtype: torch.dtype = torch.float32, reach_nm: float = 500.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    offset = torch.rand(n, 2, generator=generator, dtype=torch.float64) - 0.5
    z = (2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1) * reach_nm
    return offset.to(dtype), z.to(dtype)


@pytest.mark.parametrize(("kind", "name"), SHELF)
def test_fractions_are_not_negative_and_sum_to_one(kind: str, name: str) -> None:
    psf = section(kind, name, roi_px=61).build(PIXEL_NM)
    patches = psf(*places(20)).detach()
    assert patches.shape == (20, psf.planes, 61, 61)
    assert (patches >= 0).all()
    torch.testing.assert_close(patches.sum((1, 2, 3)), torch.ones(20), rtol=0, atol=2e-4)


@pytest.mark.parametrize(("kind", "name"), SHELF)
def test_the_size_in_focus_is_known(kind: str, name: str) -> None:
    assert 10.0 < section(kind, name).width_in_focus_nm() < 1000.0


@pytest.mark.parametrize(("kind", "name"), SHELF)
@pytest.mark.parametrize("nodes_per_px", [0, 1, 2])
def test_a_step_of_one_pixel_rolls_the_patch(kind: str, name: str, nodes_per_px: int) -> None:
    settings = section(kind, name, roi_px=13)
    psf = with_maps(settings, nodes_per_px) if nodes_per_px else settings.build(PIXEL_NM)
    z = torch.tensor([-200.0, 0.0, 350.0])
    ones = torch.ones(3)
    at = torch.stack((-0.5 * ones, 0.2 * ones), 1)
    right, left = psf(at + torch.tensor([1.0, 0.0]), z), psf(at, z)
    torch.testing.assert_close(right[..., 1:], left[..., :-1], rtol=1e-4, atol=2e-7)
    below, above = psf(at.flip(1) + torch.tensor([0.0, 1.0]), z), psf(at.flip(1), z)
    torch.testing.assert_close(below[..., 1:, :], above[..., :-1, :], rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize(("kind", "name"), SHELF)
def test_offset_and_shift_mean_columns_and_rows(kind: str, name: str) -> None:
    psf = section(kind, name, roi_px=61).build(PIXEL_NM)
    at = torch.arange(61.0) - 30

    def centre(dx: float, dy: float) -> tuple[float, float]:
        image = psf(torch.tensor([[dx, dy]]), torch.tensor([60.0])).detach()[0].sum(0)
        return float((image.sum(0) * at).sum()), float((image.sum(1) * at).sum())

    (x0, y0), (x1, y1) = centre(0.0, 0.0), centre(0.4, -0.3)
    assert x1 - x0 == pytest.approx(0.4, abs=2e-3)
    assert y1 - y0 == pytest.approx(-0.3, abs=2e-3)


@pytest.mark.parametrize(("kind", "name"), SHELF)
def test_scale_widens_all_lengths(kind: str, name: str) -> None:
    psf = section(kind, name, roi_px=81, **({"shift_nm": None} if kind == "multiplane" else {})).build(PIXEL_NM)
    z = torch.tensor([120.0])
    at = torch.arange(81.0) - 40

    def spread(scale: float) -> torch.Tensor:
        image = psf(torch.zeros(1, 2), z, torch.tensor([scale])).detach()[0]
        return (image * (at**2 + at[:, None] ** 2)).sum() / image.sum() - 1 / 6 - _centre(image, at)

    torch.testing.assert_close(spread(1.4), 1.4**2 * spread(1.0), rtol=3e-3, atol=0)


def _centre(image: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    x, y = (image.sum((0, 1)) * at).sum(), (image.sum((0, 2)) * at).sum()
    return x**2 + y**2


# ------------------------------------------------------------------------------------------------------------------- derivatives


def derivative_along(function, value: torch.Tensor, direction: torch.Tensor, step: float) -> torch.Tensor:
    return (function(value + step * direction) - function(value - step * direction)) / (2 * step)


@pytest.mark.parametrize(("kind", "name"), SHELF)
@pytest.mark.parametrize("nodes_per_px", [0, 2])
def test_gradients_in_position_and_every_parameter_are_finite_differences(kind: str, name: str, nodes_per_px: int) -> None:
    settings = section(kind, name, roi_px=9)
    psf = (with_maps(settings, nodes_per_px) if nodes_per_px else settings.build(PIXEL_NM)).double()
    generator = torch.Generator().manual_seed(2)
    offset, z = places(6, torch.float64, reach_nm=280.0)
    scale = torch.linspace(0.9, 1.2, 6, dtype=torch.float64)
    weight = torch.randn(psf(offset, z).shape, generator=generator, dtype=torch.float64)
    values = {"offset": offset, "z": z, "scale": scale, **{n: p.detach().clone() for n, p in psf.named_parameters()}}

    def score(changed: str, value: torch.Tensor) -> torch.Tensor:
        at = {**values, changed: value}
        parameters = {n: at[n] for n, _ in psf.named_parameters()}
        drawn = torch.func.functional_call(psf, parameters, (at["offset"], at["z"], at["scale"]))
        return (drawn * weight).sum()

    checked = []
    for which, value in values.items():
        leaf = value.clone().requires_grad_()
        total = score(which, leaf)
        (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True) if total.requires_grad else (None,)
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        step = 1e-5 * max(1.0, float(value.abs().max()))
        expected = derivative_along(lambda v, which=which: score(which, v), value, direction, step)
        found = torch.zeros(()).double() if gradient is None else (gradient * direction).sum()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-10, msg=lambda m, which=which: f"{which}: {m}")
        checked += [which] if expected.abs() > 1e-10 else []
    idle = {"gaussian flat": {"z", "focus_nm"}, "spline flat": {"z"}}.get(f"{kind} {name}", set())
    if nodes_per_px:
        idle = idle - {"z"}  # the maps know depths even where the formula does not
    found_idle = set(values) - set(checked)
    if kind not in EXAMPLES and not settings.tells_depth:
        found_idle -= {"z"}  # it may be the same at all depths
    assert found_idle == idle


# -------------------------------------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize(("kind", "name"), SHELF)
@pytest.mark.parametrize("nodes_per_px", [1, 2])
def test_maps_are_the_same_on_the_fast_path(kind: str, name: str, nodes_per_px: int) -> None:
    psf = with_maps(section(kind, name, roi_px=7), nodes_per_px)
    offset, z = places(40)
    ends = torch.tensor([[-0.5, 0.5], [0.5, -0.5], [0.0, 0.0], [0.5, 0.5], [-0.5, -0.5]])
    offset, z = torch.cat((offset, ends)), torch.cat((z, torch.tensor([-900.0, -300.0, 300.0, 299.99, 900.0])))
    expected = psf(offset, z).detach()
    with torch.no_grad():
        found = psf(offset, z)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    bare = psf.shape(*offset.unbind(-1), z, torch.ones(len(z))).detach()
    assert (expected - bare).abs().max() > 1e-4


@pytest.mark.parametrize("nodes_per_px", [1, 2])
def test_maps_are_read_at_their_nodes(nodes_per_px: int) -> None:
    settings = section("gaussian", "flat", roi_px=5)
    psf = with_maps(settings, nodes_per_px)
    maps = psf.maps.detach()[0]
    with torch.no_grad():
        # at the corner of a pixel the middle pixel's centre lies half a pixel from the emitter: on a node for any s
        found = psf(torch.tensor([[0.5, -0.5]]), torch.tensor([-100.0]))[0, 0]
        bare = psf.shape(*torch.tensor([[0.5], [-0.5]]), torch.tensor([-100.0]), torch.ones(1))[0, 0]
    s = nodes_per_px
    torch.testing.assert_close(found - bare, maps[1, s::s, :-1:s][:5, :5], rtol=0, atol=1e-7)


# ---------------------------------------------------------------------------------------------------------------------- document


@pytest.mark.parametrize(("kind", "name"), SHELF)
@pytest.mark.parametrize("nodes_per_px", [0, 2])
def test_a_changed_psf_comes_back_from_its_document(kind: str, name: str, nodes_per_px: int) -> None:
    settings = section(kind, name, roi_px=9)
    psf = with_maps(settings, nodes_per_px) if nodes_per_px else settings.build(PIXEL_NM)
    offset, z = places(5)
    before = psf(offset, z).detach()
    with torch.no_grad():
        for parameter in psf.parameters():
            parameter.mul_(1.02)
    text = psf.described().model_dump_json()
    again = PSFS.get(kind).model_validate_json(text).build(PIXEL_NM)
    torch.testing.assert_close(again(offset, z), psf(offset, z), rtol=1e-5, atol=1e-8)
    assert (again(offset, z) - before).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("kind", "name", "change", "words"),
    [
        ("gaussian", "flat", {"width_nm": -1.0}, "'width_nm'.*greater than 0"),
        ("gaussian", "flat", {"roi_px": 10}, "roi_px must be odd \\(found 10\\)"),
        ("gaussian", "flat", {"widht_nm": 3.0}, "unknown key 'widht_nm' \\(did you mean 'width_nm'\\?\\)"),
        ("multiplane", "quad", {"transmission": (0.5, 0.5)}, "transmission has 2 entries, plane_focus_nm has 4"),
        ("astigmatic", "33", {"angle_deg": 120.0}, "'angle_deg'.*less than or equal to 90"),
        (
            "gaussian",
            "flat",
            {"residual_maps": {"values": np.zeros((2, 4, 4)), "z_min_nm": 0}},
            "residual maps are 3 px wide, roi_px",
        ),
        ("gaussian", "flat", {"residual_maps": {"values": np.zeros((2, 5, 5)), "z_min_nm": 0}}, "with odd k"),
    ],
)
def test_impossible_sections_are_refused(kind: str, name: str, change: dict[str, object], words: str) -> None:
    with pytest.raises(DocumentError, match=words) as error:
        section(kind, name, **change)
    assert "\n" not in str(error.value)


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(DocumentError, match="unknown PSF 'astigmatism' \\(did you mean 'astigmatic'\\?\\)"):
        PSFS.get("astigmatism")


def test_a_fitted_value_outside_of_its_range_is_brought_back() -> None:
    psf = section("astigmatic", "33").build(PIXEL_NM)
    with torch.no_grad():
        psf.quartic.fill_(-0.02)
        psf.width_nm.fill_(-5.0)
    psf.keep_possible()
    assert psf.quartic.item() == 0.0
    assert 0 < psf.width_nm.item() < 1e-3
    assert psf.depth_nm.item() == 380.0
