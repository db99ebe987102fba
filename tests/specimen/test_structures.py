import math

import pytest
import torch
from scipy import stats

from denseloc.data.grid import Grid
from denseloc.errors import DocumentError
from denseloc.specimen import Volume
from denseloc.specimen.structures import FilamentsSettings, PointsSettings, RingsSettings

VOLUME = Volume(Grid((40, 50), (100.0, 120.0), margin_px=4), (-500.0, 300.0))


def movies(n_movies: int, n_each: int) -> torch.Tensor:
    return torch.arange(n_movies).repeat_interleave(n_each)


def test_filaments_are_evenly_placed_over_many_movies(generator: torch.Generator) -> None:
    x, y, z = FilamentsSettings().build(VOLUME).places(movies(3000, 20), 3000, generator)
    (y0, x0), (height, width) = VOLUME.origin_nm, VOLUME.size_nm
    for values, low, size in ((x, x0, width), (y, y0, height)):
        part = (values - low) / size
        assert stats.kstest(part[::20].numpy(), "uniform").pvalue > 1e-3  # one molecule a movie: independent
    assert z.min() >= -500
    assert z.max() <= 300
    assert z.std() > 80


def test_filaments_are_thin_tubes(generator: torch.Generator) -> None:
    """Of one long filament without bending, the molecules lie on the tube's wall around a straight line."""
    volume = Volume(Grid((200, 200), (100.0, 100.0)), (-40.0, 40.0))
    settings = FilamentsSettings(radius_nm=12, thickness_nm=6, count=(1, 1), bending_per_um=0.0)
    places = settings.build(volume).places(movies(1, 20_000), 1, generator)
    near = (places[:2] - places[:2, :1]).norm(dim=0) < 400
    x, y, _ = (places[:, near] - places[:, near].mean(1, keepdim=True)).double()
    across = torch.linalg.svd(torch.stack([x, y]), full_matrices=False).S / math.sqrt(int(near.sum()))
    assert across[0] > 150
    assert across[1].item() == pytest.approx(12 / math.sqrt(2), abs=2.0)


def test_part_of_the_movies_is_structured(generator: torch.Generator) -> None:
    structure = FilamentsSettings(fraction=0.5, count=(1, 1), bending_per_um=0.0).build(VOLUME)
    x, y, _ = structure.places(movies(200, 200), 200, generator)
    pairs = torch.hypot(x.view(200, 1, 200) - x.view(200, 200, 1), y.view(200, 1, 200) - y.view(200, 200, 1))
    close = (pairs < 60).float().mean((1, 2))
    assert (close > 0.009).float().mean().item() == pytest.approx(0.5, abs=0.15)


def test_rings_have_their_radius_and_spacing(generator: torch.Generator) -> None:
    volume = Volume(Grid((10, 10), (1000.0, 1000.0)), (-200.0, 200.0))
    settings = RingsSettings(pores_per_um2=0.01, tilt_degrees=0.0, label_nm=0.0)  # one pore
    for _ in range(20):
        places = settings.build(volume).places(movies(1, 2000), 1, generator)
        distinct = torch.unique(places.round(), dim=1)
        spread = places.amax(1) - places.amin(1)
        if spread[:2].max() < 200 and places[2].abs().max() < 199:  # a pore that is not cut by the edge
            break
    assert distinct.shape[1] == 16
    assert spread[2].item() == pytest.approx(50.0, abs=0.1)
    centre = torch.unique(places, dim=1).double().mean(1, keepdim=True)
    torch.testing.assert_close((places - centre)[:2].norm(dim=0), torch.full((2000,), 55.0).double(), rtol=0.0, atol=0.5)


def test_points_are_the_users_places(generator: torch.Generator) -> None:
    table = [[100.0, 200.0, 10.0], [3000.0, 2500.0, -20.0], [99_999.0, 0.0, 0.0], [-200.0, 100.0, 0.0]]
    structure = PointsSettings(places_nm=table).build(VOLUME)
    assert structure.inside_fraction == pytest.approx(2 / 3)
    places = structure.places(movies(1, 500), 1, generator)
    assert {tuple(p) for p in places.T.tolist()} == {(100.0, 200.0, 10.0), (3000.0, 2500.0, -20.0), (-200.0, 100.0, 0.0)}
    flat = PointsSettings(places_nm=[[100.0, 200.0]]).build(VOLUME).places(movies(1, 500), 1, generator)
    assert flat[2].min() < -450
    assert flat[2].max() > 250


def test_points_outside_of_the_frame_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"none of the structure's 1 places lies in the frame: found x 9999 .. 9999"):
        PointsSettings(places_nm=[[9999.0, 0.0]]).build(VOLUME)
    with pytest.raises(ValueError, match=r"\(n, 2\) or \(n, 3\)"):
        PointsSettings(places_nm=[1.0, 2.0])
