"""localize --rescale-offsets: off unless asked for, said in the table, not for refined positions."""

import numpy as np
import pytest

from denseloc.formats import read_table
from denseloc.localize import rescaling
from denseloc.pipeline import localize

BARE = ("--no-picture", "--no-report")


def test_few_localizations_stay_and_the_table_says_so(command, place, tmp_path):
    plain, asked = tmp_path / "plain.parquet", tmp_path / "asked.parquet"
    for out, more in ((plain, ()), (asked, ("--rescale-offsets",))):
        answer = command("localize", place.movie, "-o", out, "--model", place.model, *BARE, *more)
        assert answer.code == 0, answer
        assert ("sub-pixel positions: not rescaled" in answer.out) == bool(more)
    one, other = read_table(plain), read_table(asked)
    np.testing.assert_array_equal(one.x_nm, other.x_nm)
    assert "offset_rescaling" not in one.provenance.settings
    assert other.provenance.settings["offset_rescaling"]["rescaled"] is False


def test_positions_are_rescaled_where_there_are_enough(command, place, tmp_path, monkeypatch):
    monkeypatch.setattr(rescaling, "LEAST_ROWS", 10)
    monkeypatch.setattr(rescaling, "_sigma_px", lambda table, *_: np.ones(len(table)))
    monkeypatch.setattr(rescaling, "_helps_the_other_half", lambda *_: True)
    plain, asked = tmp_path / "plain.parquet", tmp_path / "asked.parquet"
    for out, more in ((plain, ()), (asked, ("--rescale-offsets", "--block-frames", "7"))):
        assert command("localize", place.movie, "-o", out, "--model", place.model, *BARE, *more).code == 0
    one, other = read_table(plain), read_table(asked)
    expected = rescaling.rescale_offsets(one)
    np.testing.assert_array_equal(other.x_nm, expected.x_nm)
    assert other.provenance.settings["offset_rescaling"] == expected.provenance.settings["offset_rescaling"]
    assert (other.x_nm != one.x_nm).any()


@pytest.mark.parametrize("out", ["t.parquet", "t.csv"])
def test_not_for_refined_positions(command, place, tmp_path, out):
    answer = command("localize", place.movie, "-o", tmp_path / out, "--model", place.model, "--refine", "--rescale-offsets")
    assert answer.code == 2
    assert "refined positions know no pixels" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_resume_takes_a_finished_table_for_what_it_is(place, tmp_path):
    """Positions that were spread and those that were not are two results, of the same blocks."""
    out, seen = tmp_path / "t.parquet", []

    def run(asked):
        seen.clear()
        localize(place.movie, out, model=place.model, rescale_offsets=asked, resume=True, report=lambda _: seen.append(1))
        return "offset_rescaling" in read_table(out).provenance.settings, bool(seen)

    assert run(False) == (False, True)
    assert run(True) == (True, True)
    assert run(True) == (True, False)
    assert run(False) == (False, True)
