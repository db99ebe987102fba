"""The command `check`: verdict, exit code, page, JSON; bad input is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from .conftest import untrained

VERDICTS = {"pass": 0, "warn": 0, "fail": 3}


def test_it_says_a_verdict_and_writes_a_page(command, place, tmp_path):
    page = tmp_path / "check.html"
    answer = command("check", place.model, place.movie, "--report", page)
    verdict = next(line.partition(":")[0] for line in answer.out.splitlines() if line.split(":")[0] in VERDICTS)
    assert answer.code == VERDICTS[verdict]
    assert answer.err == ""
    html = page.read_text(encoding="utf-8")
    for words in ("Does tiny suit movie.tif?", "Autocorrelation of the residual", "trained on", "pixel size"):
        assert words in html
    assert "<script" not in html


def test_json_is_one_object(command, place):
    answer = command("check", place.model, place.movie, "--json")
    found = json.loads(answer.out)
    assert answer.code == VERDICTS[found["verdict"]]
    names = {one["name"]: one for one in found["compared"]}
    assert names["emitters, missed ones counted"]["trained"] == [0.4, 0.4]
    assert names["background"]["movie"] == pytest.approx(10, rel=0.25)
    assert {finding["level"] for finding in found["findings"]} <= {"warn", "fail"}


def test_quiet_says_nothing_and_still_fails(command, place):
    answer = command("check", place.model, place.movie, "--pixel-size-nm", 150, "--quiet")
    assert (answer.code, answer.out, answer.err) == (3, "", "")


def test_other_pixels_fail(command, place, tmp_path):
    answer = command("check", place.model, place.movie, "--pixel-size-nm", 150, "--report", tmp_path / "c.html")
    assert answer.code == 3
    assert "fail: model tiny was trained for pixels of 100 nm, the movie has 150 nm" in answer.out
    assert "was trained for pixels of 100 nm" in (tmp_path / "c.html").read_text(encoding="utf-8")


def write(path, counts):
    np.save(path, counts)
    return path


@pytest.mark.parametrize(
    ("counts", "more", "words"),
    [
        (100 + np.arange(20 * 480, dtype=np.uint16).reshape(20, 24, 20), ("--planes", 2), "sees 1 focal plane, the movie has 2"),
        (np.full((20, 24, 20), 100, np.uint16), (), "all pixels hold 100 counts"),
        (100 + np.random.default_rng(0).poisson(20, (4, 24, 20)).astype(np.uint16), (), "has 4 frames; expected at least 6"),
        (np.full((20, 24, 20), 65535, np.uint16) - (np.arange(20) == 3).astype(np.uint16), (), "of the pixels are full"),
        (100 + np.random.default_rng(0).poisson(20, (20, 4, 20)).astype(np.uint16), (), "expected at least 8 x 8"),
        (
            100 + np.random.default_rng(0).poisson(20, (20, 24, 20)).astype(np.uint16),
            ("--report", "c.pdf"),
            "expected a name that ends in .html",
        ),
        (np.full((20, 24, 20), np.nan, np.float32), (), "contains NaN"),
    ],
    ids=["planes", "dark", "short", "full", "small", "page", "not numbers"],
)
def test_bad_input_is_one_line(command, place, tmp_path, counts, more, words):
    answer = command("check", place.model, write(tmp_path / "m.npy", counts), "--pixel-size-nm", 100, *more)
    assert answer.code == 2
    assert words in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert answer.out.count("\n") <= 3


def test_a_network_that_learned_nothing_is_refused_or_fails(command, place, tmp_path):
    answer = command("check", untrained(tmp_path / "raw.safetensors"), place.movie)
    assert answer.code == 3


def test_a_run_keeps_the_glance_and_its_report_shows_it(command, place, tmp_path):
    from denseloc.formats import read_table
    from denseloc.suitability import Suitability

    table = tmp_path / "t.parquet"
    answer = command("localize", place.movie, "-o", table, "--model", place.model, "--camera", "offset=100,electrons_per_count=1.0")
    assert answer.code == 0
    kept = Suitability.from_json(read_table(table).provenance.settings["suitability"])
    assert kept is not None
    assert kept.quick
    assert kept.topics
    for finding in kept.findings:
        assert answer.out.count(finding.text) == 1
    assert "Does the model suit the movie?" in table.with_suffix(".html").read_text(encoding="utf-8")
