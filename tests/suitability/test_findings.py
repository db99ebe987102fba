"""Findings stand in order, causes hide what follows from them, and all of it travels as JSON."""

from __future__ import annotations

import json
import math

import pytest

from denseloc.suitability import Compared, Finding, Suitability, camera_first
from denseloc.suitability.findings import sorted_out


def topics(*found: tuple[str, str]) -> list[str]:
    return [one.topic for one in sorted_out([Finding(topic, level, topic) for topic, level in found])]


def test_causes_come_first():
    assert topics(("background", "warn"), ("psf", "warn"), ("photons", "fail")) == ["psf", "photons", "background"]


def test_symptoms_are_told_where_there_is_no_cause():
    assert topics(("patches", "warn"), ("residual", "warn")) == ["residual", "patches"]
    assert topics(("patches", "warn"), ("psf", "warn")) == ["psf"]


def test_what_a_wrong_camera_brings_along_is_not_told():
    assert topics(("photons", "fail"), ("camera", "warn"), ("background", "fail"), ("full", "warn")) == ["full", "camera"]


def test_the_camera_is_told_first_and_what_follows_from_it():
    found = [Finding("density", "fail", "dense"), Finding("pixels", "warn", "oblong"), Finding("camera", "warn", "doubted")]
    follows = "doubted; put the camera right first, for what seems wrong with density follows from it"
    assert [one.text for one in camera_first(found)] == [follows, "oblong"]
    assert [one.text for one in sorted_out(found)] == ["oblong", follows]
    assert [one.text for one in camera_first(found[:2])] == ["dense", "oblong"]
    several = [*found, Finding("photons", "warn", ""), Finding("background", "warn", "")]
    assert camera_first(several)[0].text.endswith("with photons, background and density follows from it")
    assert [one.text for one in camera_first(found[1:])] == ["doubted", "oblong"]


def test_the_graver_of_two_is_kept():
    (one,) = sorted_out([Finding("density", "warn", "a little"), Finding("density", "fail", "much")])
    assert one.text == "much"


@pytest.mark.parametrize(("levels", "verdict"), [((), "pass"), (("warn",), "warn"), (("warn", "fail"), "fail")])
def test_verdict_is_the_gravest(levels, verdict):
    found = tuple(Finding(topic, level, "") for topic, level in zip(("psf", "photons"), levels, strict=False))
    assert Suitability(found).verdict == verdict


def test_it_travels_as_json():
    found = Suitability(
        (Finding("psf", "warn", "wide"),),
        (Compared("z", "nm", 1.0, math.nan, 0.0, (-500.0, 500.0)), Compared("noise", "", 1.02, 1.0, 0.01)),
        {"elsewhere": (0.6, 0.5)},
        ("short",),
        True,
    )
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["verdict"] == "warn"
    again = Suitability.from_json(values)
    assert again is not None
    assert again.to_json() == found.to_json()


@pytest.mark.parametrize(
    "values", [None, 3, {}, {"findings": 1}, {"findings": [], "compared": [{}], "told_apart": {}, "notes": [], "quick": 1}]
)
def test_something_else_in_a_table_is_nothing(values):
    assert Suitability.from_json(values) is None
