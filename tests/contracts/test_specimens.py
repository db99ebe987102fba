"""What every structure, blinking law, photon law and background on the shelves keeps to."""

import pytest
import torch
from shelf_examples import example_of

from denseloc.data.grid import Grid
from denseloc.specimen import BACKGROUNDS, BLINKING, PHOTONS, STRUCTURES, SpecimenSettings

GRID = Grid((30, 40), (100.0, 130.0), margin_px=4)
EXAMPLES = {
    "mixed": {"laws": [{"kind": "survival"}, {"kind": "four_state"}]},
    "points": {"places_nm": [[x, y, 50.0] for x in range(-300, 5400, 240) for y in range(-300, 3300, 170)]},
    "constant": {"photons": 1000.0},
    "normal": {"mean": 1000.0, "sd": 600.0},
    "gamma": {"mean": 1000.0, "sd": 600.0},
    "photons.uniform": {"low": 100.0, "high": 2000.0},
    "log_uniform": {"low": 100.0, "high": 2000.0},
    "flux": {"photons": 5000.0, "is_uneven": True},
    "background.uniform": {"photons": [10.0, 100.0]},
    "sloped": {"photons": 30.0},
    "slowly_varying": {"photons": [10.0, 100.0]},
}
"""By kind or shelf and kind; what is not here is tested with the examples of its section's keys."""

PLAIN = {"structure": "uniform", "blinking": "none", "photons": "constant", "background": "uniform"}
SHELVES = {"structure": STRUCTURES, "blinking": BLINKING, "photons": PHOTONS, "background": BACKGROUNDS}
CASES = [(noun, kind) for noun, shelf in SHELVES.items() for kind in shelf.names()]


def example(noun: str, kind: str) -> dict[str, object]:
    for name in (f"{noun}.{kind}", kind):
        if name in EXAMPLES:
            return {"kind": kind, **EXAMPLES[name]}
    return example_of(SHELVES[noun].get(kind))


@pytest.fixture(params=CASES, ids=lambda case: ".".join(case))
def settings(request: pytest.FixtureRequest) -> SpecimenSettings:
    noun, kind = request.param
    parts = {part: example(part, chosen) for part, chosen in {**PLAIN, noun: kind}.items()}
    return SpecimenSettings.model_validate({"density_per_um2": 0.8, "z_nm": (-400.0, 400.0), **parts})


def test_document_round_trip(settings: SpecimenSettings) -> None:
    text = settings.model_dump_json()
    again = SpecimenSettings.model_validate_json(text)
    assert again.model_dump_json() == text
    first = settings.build(GRID).draw(3, torch.Generator().manual_seed(7))
    second = again.build(GRID).draw(3, torch.Generator().manual_seed(7))
    assert torch.equal(first.x_nm, second.x_nm)


def test_schema_can_be_written(settings: SpecimenSettings) -> None:
    assert settings.model_json_schema()["properties"]["density_per_um2"]


def test_density_is_met_in_the_frame(settings: SpecimenSettings) -> None:
    emitters = settings.build(GRID).draw(4, torch.Generator().manual_seed(0), n_movies=2500)
    height, width = GRID.size_nm
    inside = (emitters.x_nm >= 0) & (emitters.x_nm < width) & (emitters.y_nm >= 0) & (emitters.y_nm < height)
    assert inside.sum().item() / 10_000 / GRID.area_um2 == pytest.approx(0.8, rel=0.03)
    assert not inside.all()


def test_rows_are_in_order_and_in_range(settings: SpecimenSettings) -> None:
    emitters = settings.build(GRID).draw(5, torch.Generator().manual_seed(0), n_movies=20)
    assert emitters.frame.dtype == emitters.molecule.dtype == torch.int64
    assert emitters.frame.min() >= 0
    assert emitters.frame.max() < 100
    assert (emitters.frame.diff() >= 0).all()
    assert len(torch.unique(emitters.frame)) > 95
    assert (emitters.photons > 0).all()
    assert (emitters.z_nm.abs() <= 400).all()
    assert (emitters.x_nm >= -520 - 1e-3).all()
    assert (emitters.x_nm <= 5720 + 1e-3).all()
    assert (emitters.y_nm >= -400 - 1e-3).all()
    assert (emitters.y_nm <= 3400 + 1e-3).all()
    movie = torch.full((int(emitters.molecule.max()) + 1,), -1)
    movie[emitters.molecule] = emitters.frame // 5
    assert (movie[emitters.molecule] == emitters.frame // 5).all()


def test_one_seed_gives_one_draw(settings: SpecimenSettings) -> None:
    specimen = settings.build(GRID)
    draws = [specimen.draw(3, torch.Generator().manual_seed(s), n_movies=4) for s in (1, 1, 2)]
    fields = [[draw.frame, draw.x_nm, draw.z_nm, draw.photons] for draw in draws]
    assert all(torch.equal(a, b) for a, b in zip(fields[0], fields[1], strict=True))
    assert not torch.equal(draws[0].x_nm, draws[2].x_nm)
    first, second = (specimen.draw_background(3, torch.Generator().manual_seed(1), n_movies=4) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (12, 1, 30, 40)
    assert (first >= 0).all()


def test_its_own_draws_are_possible(settings: SpecimenSettings) -> None:
    specimen = settings.build(GRID)
    value = specimen.log_prob(specimen.draw(40, torch.Generator().manual_seed(3)), 40)
    assert value.shape == (40,)
    assert value.isfinite().all()


def test_nearly_no_emitters() -> None:
    values = {"density_per_um2": 1e-6, "z_nm": (0.0, 0.0), "background": {"kind": "uniform", "photons": 1.0}}
    for noun, kind in [(n, k) for n, k in CASES if n in ("structure", "blinking")]:
        parts = {"photons": {"kind": "constant", "photons": 5.0}, noun: example(noun, kind)}
        if kind == "points":
            parts[noun]["places_nm"] = [[500.0, 500.0]]
        specimen = SpecimenSettings.model_validate({**values, **parts}).build(GRID)
        emitters = specimen.draw(3, torch.Generator().manual_seed(0))
        assert len(emitters) == 0
        assert specimen.log_prob(emitters, 3).isfinite().all()
