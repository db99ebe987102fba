import pytest
import torch

from denseloc.specimen.backgrounds import SlopedSettings, SlowlyVaryingSettings, UniformSettings


def test_uniform_range_is_even_in_the_logarithm(generator: torch.Generator) -> None:
    drawn = UniformSettings(photons=(1.0, 100.0)).build().draw((3, 4), 4000, generator)
    assert drawn.shape == (4000, 1, 3, 4)
    assert (drawn.amax((1, 2, 3)) == drawn.amin((1, 2, 3))).all()
    assert (drawn[:, 0, 0, 0] < 10).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn.min() >= 1
    assert drawn.max() <= 100.01


def test_sloped_is_a_plane_within_its_slope(generator: torch.Generator) -> None:
    drawn = SlopedSettings(photons=50.0, slope=0.4).build().draw((30, 40), 200, generator)[:, 0]
    torch.testing.assert_close(drawn.mean((1, 2)), torch.full((200,), 50.0))
    assert drawn.diff(n=2, dim=1).abs().max() < 1e-3
    assert drawn.diff(n=2, dim=2).abs().max() < 1e-3
    rise = (drawn.amax((1, 2)) - drawn.amin((1, 2))) / 50
    assert 0.3 < rise.max() < 0.4 * 2**0.5


def test_slowly_varying_is_smooth_and_keeps_its_mean(generator: torch.Generator) -> None:
    drawn = SlowlyVaryingSettings(photons=20.0, length_px=10, amplitude=0.3).build().draw((40, 40), 500, generator)[:, 0]
    assert drawn.mean().item() == pytest.approx(20.0, rel=0.03)
    assert 0.15 < (drawn.std((1, 2)) / 20).mean() < 0.35
    neighbours = drawn.diff(dim=2).abs().mean()
    distant = (drawn[:, :, 20:] - drawn[:, :, :-20]).abs().mean()
    assert distant > 6 * neighbours
    assert drawn.min() > 0


def test_zero_is_a_background() -> None:
    assert UniformSettings(photons=0).photons == 0
    with pytest.raises(ValueError, match="above 0 at both ends"):
        UniformSettings(photons=(0, 5))
    with pytest.raises(ValueError, match="must not be negative"):
        UniformSettings(photons=-1)
