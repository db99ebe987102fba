"""The report shows how far sigma can be believed, where the table's model knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from denseloc.evaluate.coverage import NOMINAL
from denseloc.report import write_report
from denseloc.report.uncertainty import coverage_plate


def known(inside: tuple[float, ...] = NOMINAL, **more: Any) -> dict[str, Any]:
    one = {"n": 4000, "median": 0.0, "robust_sd": 1.04, "inside": list(inside)}
    return {
        "correction": "sigma corrected by 0.93 .. 1.21 (x)",
        "simulated_frames": 1600,
        "pulls": {"x_nm": one, "y_nm": one},
        **more,
    }


def page_of(run: Run, out: Path) -> str:
    write_report(out, table=run.table, image=run.image, movie=run.movie, sample=run.samples, warnings=[], run={}, title="Fibres")
    return out.read_text(encoding="utf-8")


def test_the_page_shows_the_curve_only_where_the_model_knows_it(run: Run, tmp_path: Path) -> None:
    assert "Errors against sigma" not in page_of(run, tmp_path / "without.html")
    table = run.table.with_provenance(settings={"uncertainty": known()})
    page = page_of(replace(run, table=table), tmp_path / "with.html")
    assert "Errors against sigma" in page
    assert "68 % of the errors in x lie within one sigma (68 % if right): sigma can be believed" in page
    assert "0.93 .. 1.21 (x)" in page


def test_sigmas_that_are_off_are_called_so() -> None:
    plate = coverage_plate({"uncertainty": known(inside=(0.2, 0.5, 0.7, 0.8, 0.9, 0.95))})
    assert plate is not None
    assert "sigma is off: shares differ by up to 18 %" in plate.caption
    assert "x 50 and 80 %" in plate.alt


@pytest.mark.parametrize(
    "settings", [None, {}, {"uncertainty": 3}, {"uncertainty": {"pulls": {"x_nm": "?"}}}, {"uncertainty": {"pulls": None}}]
)
def test_what_other_programs_leave_there_draws_nothing(settings: Any) -> None:
    assert coverage_plate(settings) is None


def test_words_that_are_missing_are_left_out() -> None:
    plate = coverage_plate({"uncertainty": known(correction=None, simulated_frames="many")})
    assert plate is not None
    assert plate.caption.startswith("On simulated frames")
    assert "correction" not in plate.caption
