import pytest
import torch

from denseloc.camera import VariousSettings
from denseloc.description import parse
from denseloc.errors import DocumentError


def test_each_movie_has_the_noise_of_its_camera(generator: torch.Generator) -> None:
    camera = VariousSettings(em_fraction=0.5).build()
    draw = camera.draw(12, generator)
    assert 0 < (draw.excess == 2).sum() < 12
    photons = torch.full((12 * 3, 1, 100, 100), 40.0)
    frames = camera.sample_with(photons, draw, generator).reshape(12, -1)
    torch.testing.assert_close(frames.mean(1), torch.full((12,), 40.0), rtol=0.01, atol=0.0)
    torch.testing.assert_close(frames.var(1), 40 * draw.excess + draw.noise_variance(), rtol=0.05, atol=0.0)
    steps = frames / draw.photons_per_count[:, None]
    torch.testing.assert_close(steps, steps.round(), rtol=0.0, atol=1e-2)


def test_draws_keep_to_the_ranges(generator: torch.Generator) -> None:
    settings = VariousSettings(em_fraction=0.25, read_noise_electrons=(1.0, 4.0))
    draw = settings.build().draw(4000, generator)
    multiplies = draw.excess == 2
    assert multiplies.float().mean().item() == pytest.approx(0.25, abs=0.03)
    plain = draw.read_noise[~multiplies]
    assert plain.min() >= 1.0
    assert plain.max() <= 4.0
    assert (plain < 2.0).float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert draw.read_noise[multiplies].max() <= 0.5


def test_only_one_sort_of_camera(generator: torch.Generator) -> None:
    for fraction in (0.0, 1.0):
        frames = VariousSettings(em_fraction=fraction).build().sample(torch.full((2, 1, 60, 60), 100.0), generator)
        assert frames.var().item() == pytest.approx(100 * (1 + fraction), rel=0.15)


def test_ranges_must_be_possible() -> None:
    with pytest.raises(DocumentError, match="must be above 0 at both ends"):
        parse(VariousSettings, {"read_noise_electrons": [0.0, 2.0]}, "camera.toml")
    with pytest.raises(DocumentError, match="must be between 0 and 1"):
        parse(VariousSettings, {"em_fraction": 2.0}, "camera.toml")
