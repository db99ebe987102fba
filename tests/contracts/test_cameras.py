"""What every camera on the shelf keeps to."""

import pytest
import torch
from shelf_examples import example_of

from denseloc.camera import CAMERAS, Camera, CameraSettings, Various
from denseloc.description import parse
from denseloc.errors import DocumentError


@pytest.fixture(params=CAMERAS.names())
def settings(request: pytest.FixtureRequest) -> CameraSettings:
    section = CAMERAS.get(request.param)
    return parse(section, example_of(section), "example")


@pytest.fixture
def camera(settings: CameraSettings) -> Camera:
    return settings.build()


def test_document_round_trip(settings: CameraSettings) -> None:
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("photons", [3.0, 80.0])
def test_photons_come_back_with_the_stated_variance(camera: Camera, photons: float) -> None:
    generator = torch.Generator().manual_seed(0)
    n_movies = 400 if isinstance(camera, Various) else 1
    expected = torch.full((200_000 // n_movies, 1, 1), photons)
    found = torch.cat([camera.to_photons(camera.sample(expected, generator)) for _ in range(n_movies)]).detach()
    half_count = 0.5 / float(camera.counts_per_photon)
    assert found.mean().item() == pytest.approx(photons, abs=half_count + 0.005 * photons + 0.02)
    variance = float(torch.as_tensor(camera.excess).detach()) * photons + float(camera.noise_variance(()))
    assert found.var().item() == pytest.approx(variance, rel=0.12 if n_movies > 1 else 0.03)


def test_shapes_dtype_and_determinism(camera: Camera) -> None:
    photons = torch.full((2, 1, 5, 7), 20.0)
    first = camera.sample(photons, torch.Generator().manual_seed(4)).detach()
    assert first.shape == photons.shape
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, camera.sample(photons, torch.Generator().manual_seed(4)).detach(), rtol=0, atol=0)
    assert not torch.equal(first, camera.sample(photons, torch.Generator().manual_seed(5)))
    assert camera.noise_variance((2, 1, 5, 7)).shape == (2, 1, 5, 7)
    assert (camera.noise_variance((5, 7)) >= 0).all()
    torch.testing.assert_close(photons, torch.full((2, 1, 5, 7), 20.0))


def test_log_prob_is_elementwise_differentiable_and_best_near_the_truth(camera: Camera) -> None:
    generator = torch.Generator().manual_seed(2)
    counts = camera.sample(torch.full((4000,), 60.0), generator).detach()
    guesses = torch.tensor([30.0, 45.0, 60.0, 80.0, 120.0])
    totals = torch.stack([camera.log_prob(counts, g.expand(4000)).mean() for g in guesses])
    assert totals.argmax() == 2
    photons = torch.full((4000,), 60.0, requires_grad=True)
    value = camera.log_prob(counts, photons)
    assert value.shape == counts.shape
    (gradient,) = torch.autograd.grad(value.sum(), photons)
    assert gradient.mean().item() == pytest.approx(0.0, abs=6e-3)


def test_crops_have_the_size_asked_for(camera: Camera, generator: torch.Generator) -> None:
    part = camera.random_crop((3, 1, 4, 5), generator)
    assert part.sample(torch.ones(3, 1, 4, 5), generator).shape == (3, 1, 4, 5)


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(DocumentError, match="unknown camera 'emcdd' \\(did you mean 'emccd'\\?\\)"):
        CAMERAS.get("emcdd")


@pytest.mark.parametrize("name", ["counts_per_photon", "excess", "sample", "to_photons", "noise_variance", "log_prob"])
def test_a_camera_that_lacks_a_part_cannot_be_made(camera: Camera, name: str) -> None:
    assert name in Camera.__abstractmethods__
    lacking = type("Lacking", (type(camera),), {name: getattr(Camera, name)})
    with pytest.raises(TypeError, match=f"abstract.*'?{name}'?"):
        lacking()


def test_a_section_that_makes_no_camera_cannot_be_read() -> None:
    with pytest.raises(TypeError, match=r"abstract.*build"):
        CameraSettings()
