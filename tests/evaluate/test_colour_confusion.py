"""Who is taken for whom."""

from __future__ import annotations

import json

import numpy as np
import pytest

from denseloc.data import Localizations
from denseloc.evaluate import ColourConfusion, Pairs, assess_all, colour_confusion, describe

TRUE = np.array([0, 0, 0, 1, 1, 1, 1, 0])
FOUND = np.array([0, 0, 1, 1, 1, 1, 0, 1])
SURE = np.array([0.95, 0.92, 0.6, 0.97, 0.97, 0.97, 0.55, 0.55])


def rows(channel: np.ndarray | None, sure: np.ndarray | None = None) -> Localizations:
    n = np.arange(8)
    columns = {"frame": n, "x_nm": 1000.0 + n, "y_nm": np.full(8, 2000.0)}
    if channel is not None:
        columns["channel"] = channel
    return Localizations(columns if sure is None else {**columns, "channel_probability": sure})


def everything(n: int = 8) -> Pairs:
    return Pairs(np.arange(n), np.arange(n))


def test_pairs_are_counted_by_true_and_found_channel() -> None:
    found = colour_confusion(rows(FOUND, SURE), rows(TRUE), everything())
    assert found is not None
    assert found.counts == ((2, 2), (1, 3))
    assert found.right == pytest.approx(5 / 8)
    assert found.right_of_channel == (0.5, 0.75)
    steps = {(step.n, round(step.stated, 3)): step.actual for step in found.confidence}
    assert steps == {(2, 0.55): 0.0, (1, 0.6): 0.0, (2, 0.935): 1.0, (3, 0.97): 1.0}
    assert found.confidence_error == pytest.approx((2 * 0.55 + 0.6 + 2 * 0.065 + 3 * 0.03) / 8)


def test_rows_without_a_partner_do_not_count() -> None:
    found = colour_confusion(rows(FOUND), rows(TRUE), Pairs(np.array([2, 3]), np.array([0, 3])))
    assert found is not None
    assert found.counts == ((0, 1), (0, 1))
    assert found.confidence == ()


@pytest.mark.parametrize(("table", "truth"), [(rows(None), rows(TRUE)), (rows(FOUND), rows(None)), (rows(FOUND - 1), rows(TRUE))])
def test_tables_without_channels_have_none(table: Localizations, truth: Localizations) -> None:
    assert colour_confusion(table, truth, everything()) is None


def test_it_comes_back_from_json() -> None:
    found = colour_confusion(rows(FOUND, SURE), rows(TRUE), everything())
    assert found is not None
    again = ColourConfusion.from_json(json.loads(json.dumps(found.to_json())))
    assert again is not None
    assert again.counts == found.counts
    for damaged in (None, {}, {"counts": [[1]]}, {"counts": [[1, 2], [3]]}, {"counts": [[1, -2], [3, 4]]}, {"counts": "x"}):
        assert ColourConfusion.from_json(damaged) is None


def test_an_assessment_says_it() -> None:
    found = assess_all(rows(FOUND, SURE), rows(TRUE), field_nm=(6400.0, 6400.0))
    text = describe(found)
    assert "right channel / %" in text
    assert "62.5" in text
    assert ["channel", "1", "1", "3", "75.0"] in [line.split() for line in text.splitlines()]
    assert "62.5 % of 8 pairs have the right channel; stated probabilities are off by" in text
    assert found["2d_all"].to_json()["colours"]["counts"] == [[2, 2], [1, 3]]


def test_an_assessment_of_one_colour_says_nothing() -> None:
    found = assess_all(rows(None), rows(None), field_nm=(6400.0, 6400.0))
    assert "channel" not in describe(found)
    assert "colours" not in found["2d_all"].to_json()
