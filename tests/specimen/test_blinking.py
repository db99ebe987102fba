import numpy as np
import pytest
import torch

from denseloc.specimen import BLINKING
from denseloc.specimen.blinking import ExponentialSettings, FourStateSettings, NoneSettings, SurvivalSettings
from denseloc.specimen.blinking.base import rows_of_intervals


def test_intervals_are_cut_into_frames() -> None:
    molecule, frame, on = rows_of_intervals(
        torch.tensor([0, 1, 2]), torch.tensor([-0.5, 1.25, 3.0]), torch.tensor([0.25, 3.5, 9.0]), 5
    )
    assert molecule.tolist() == [0, 1, 1, 1, 2, 2]
    assert frame.tolist() == [0, 1, 2, 3, 3, 4]
    assert on.tolist() == [0.25, 0.75, 1.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("kind", BLINKING.names())
@pytest.mark.parametrize("n_frames", [1, 4, 30])
def test_every_frame_has_the_rows_asked_for(kind: str, n_frames: int, generator: torch.Generator) -> None:
    wanted = torch.tensor([60.0, 5.0, 0.5]).repeat(2000 // n_frames)
    required = {"mixed": {"laws": [{"kind": "none"}, {"kind": "exponential"}]}}
    traces = BLINKING.get(kind)(**required.get(kind, {})).build().draw(wanted, n_frames, generator)
    index = traces.movie[traces.molecule] * n_frames + traces.frame
    rows = torch.bincount(index, minlength=len(wanted) * n_frames).view(-1, 3, n_frames).double()
    torch.testing.assert_close(rows.mean((0, 2)).float(), wanted[:3], rtol=0.03, atol=0.06)
    torch.testing.assert_close(rows.sum(1).mean(0), torch.full((n_frames,), 65.5).double(), rtol=0.06, atol=0.0)
    assert traces.on.min() > 0
    assert traces.on.max() <= 1
    assert len(torch.unique(traces.molecule * n_frames + traces.frame)) == len(traces.frame)


def test_none_gives_each_row_its_own_molecule(generator: torch.Generator) -> None:
    traces = NoneSettings().build().draw(torch.tensor([4.0]), 50, generator)
    assert len(torch.unique(traces.molecule)) == len(traces.frame)
    assert (traces.on == 1).all()


def test_survival_to_the_next_frame(generator: torch.Generator) -> None:
    for stay in (0.0, 0.3, 0.8):
        traces = SurvivalSettings(survival=stay).build().draw(torch.tensor([50.0]), 400, generator)
        rows = set(zip(traces.molecule.tolist(), traces.frame.tolist(), strict=True))
        earlier = [(m, f) for m, f in rows if f < 399]
        stayed = sum((m, f + 1) in rows for m, f in earlier) / len(earlier)
        assert stayed == pytest.approx(stay, abs=0.02)


def test_exponential_lifetimes(generator: torch.Generator) -> None:
    traces = ExponentialSettings(lifetime_frames=3.0).build().draw(torch.tensor([100.0]), 500, generator)
    total = torch.zeros(len(traces.movie)).index_add_(0, traces.molecule, traces.on)
    first = torch.full((len(traces.movie),), 999).scatter_reduce_(0, traces.molecule, traces.frame, "amin")
    whole = total[(first > 0) & (first < 450)]
    assert whole.mean().item() == pytest.approx(3.0, rel=0.03)
    assert whole.std().item() == pytest.approx(3.0, rel=0.05)


def test_lifetimes_can_differ_between_movies(generator: torch.Generator) -> None:
    traces = ExponentialSettings(lifetime_frames=(0.5, 20.0)).build().draw(torch.full((300,), 40.0), 10, generator)
    per_molecule = torch.bincount(traces.movie[traces.molecule], minlength=300) / torch.bincount(traces.movie, minlength=300)
    assert per_molecule.min() < 2
    assert per_molecule.max() > 6
    assert len(traces.frame) == pytest.approx(300 * 40 * 10, rel=0.03)


def test_four_states_have_the_statistics_of_the_challenge(generator: torch.Generator) -> None:
    """Rows per molecule and the share with 1, 2, 3 rows as in the published ground truth and code."""
    traces = FourStateSettings().build().draw(torch.tensor([30.0]), 3000, generator)
    per_molecule = torch.bincount(traces.molecule).double()
    assert per_molecule.mean().item() == pytest.approx(2.98, abs=0.12)
    shares = [(per_molecule == n).double().mean().item() for n in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.26, 0.31, 0.17], atol=0.03)
    rows = set(zip(traces.molecule.tolist(), traces.frame.tolist(), strict=True))
    assert sum((m, f - 1) in rows for m, f in rows) / len(rows) == pytest.approx(0.56, abs=0.04)
    assert traces.on.min() > 0.01


def test_four_states_spend_their_times(generator: torch.Generator) -> None:
    settings = FourStateSettings(mean_on_frames=4.0, mean_dark_frames=6.0, mean_bleach_frames=12.0)
    traces = settings.build().draw(torch.tensor([30.0]), 2000, generator)
    total = torch.zeros(len(traces.movie)).index_add_(0, traces.molecule, traces.on)
    assert total.mean().item() == pytest.approx(12.0, rel=0.06)  # all ON time ends by bleaching alone
