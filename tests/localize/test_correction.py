"""The correction of uncertainties: it keeps orders, survives JSON, and is applied wherever a localizer gives a table."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.data import Frames, Localizations
from denseloc.localize import Correction, DecodeSettings, InputConditions, Scales
from denseloc.localize.correction import STRONGEST, Curve, SigmaCorrection
from denseloc.localize.decode import Decode

SCALES = Scales((110.0, 100.0), 400.0, 1000.0, 1, InputConditions(10.0, 1.0, 2.0, 1.3))
WIDER = SigmaCorrection(Curve((-3.0, -1.0), (0.3, -0.2)), Curve((0.0, 6.0), (0.25, 0.0)))
CORRECTION = Correction(
    {"sigma_x_nm": WIDER, "sigma_y_nm": WIDER, "sigma_z_nm": SigmaCorrection(Curve((3.0,), (0.1,)))},
    Curve((-4.0, 0.0, 12.0), (-3.0, 1.0, 4.0)),
)


def table(n: int = 200, seed: int = 0) -> Localizations:
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(0, 1000, n) for name in ("x_nm", "y_nm", "z_nm")}
    columns |= {name: np.exp(rng.uniform(0, 6, n)) for name in ("sigma_x_nm", "sigma_y_nm", "sigma_z_nm", "sigma_photons")}
    return Localizations({"frame": np.arange(n), **columns, "probability": rng.uniform(0.2, 1, n)})


def test_only_uncertainties_change():
    before = table()
    after = CORRECTION.apply(before, (110.0, 100.0))
    for name in before.columns:
        changed = name in (*CORRECTION.sigmas, "probability")
        assert np.array_equal(before.columns[name], after.columns[name]) != changed


def test_factors_are_those_of_the_curves():
    rows = Localizations(
        {
            "frame": [0],
            "x_nm": [0.0],
            "y_nm": [0.0],
            "sigma_x_nm": [100 * math.exp(-2)],
            "sigma_y_nm": [110 * math.exp(-3)],
            "probability": [0.5],
        }
    )
    after = CORRECTION.apply(rows, (110.0, 100.0))
    assert after.sigma_x_nm[0] / rows.sigma_x_nm[0] == pytest.approx(math.exp(0.05 + 0.25), rel=1e-5)
    assert after.sigma_y_nm[0] / rows.sigma_y_nm[0] == pytest.approx(math.exp(0.3 + 0.25), rel=1e-5)
    assert after.probability[0] == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-5)


def test_orders_are_kept():
    n = 500
    sigma, p = np.geomspace(0.01, 1e4, n), np.linspace(1e-4, 1, n)
    rows = Localizations({"frame": np.arange(n), "x_nm": sigma, "y_nm": sigma, "sigma_x_nm": sigma, "probability": np.full(n, 0.6)})
    assert (np.diff(CORRECTION.apply(rows, (100.0, 100.0)).sigma_x_nm) >= 0).all()
    changed = CORRECTION.apply(rows.with_columns(probability=p, sigma_x_nm=np.full(n, 20.0)), (100.0, 100.0))
    assert (np.diff(changed.probability) >= 0).all()
    assert (np.diff(changed.sigma_x_nm) <= 1e-6).all()
    assert 0 <= changed.probability.min() <= changed.probability.max() <= 1


def test_the_factor_is_bounded():
    wild = Correction({"sigma_x_nm": SigmaCorrection(Curve((0.0,), (9.0,)))})
    before = table()
    np.testing.assert_allclose(wild.apply(before, (1.0, 1.0)).sigma_x_nm, STRONGEST * before.sigma_x_nm, rtol=1e-5)
    assert wild.range_of("sigma_x_nm") == (STRONGEST, STRONGEST)


def test_a_threshold_is_meant_as_reported():
    for reported in (0.3, 0.5, 0.731, 0.95):
        own = np.array([CORRECTION.own_probability(reported)])
        rows = Localizations({"frame": [0], "x_nm": [0.0], "y_nm": [0.0], "probability": own})
        assert CORRECTION.apply(rows, (100.0, 100.0)).probability[0] == pytest.approx(reported, abs=1e-4)
    assert CORRECTION.own_probability(0.9999) < 1, "the surest are kept whatever is asked for"
    assert Correction().own_probability(0.7) == 0.7


def test_json_comes_back():
    again = Correction.from_json(json.loads(json.dumps(CORRECTION.to_json())))
    assert again == CORRECTION
    assert Correction.from_json(json.loads(json.dumps(Correction().to_json()))) == Correction()


def test_words_name_the_factors():
    assert CORRECTION.describe().startswith("sigma corrected by 0.82 .. 1.73 (x), ")
    assert "1.11 .. 1.11 (z)" in CORRECTION.describe()
    assert CORRECTION.describe().endswith("; probability corrected")
    assert Correction().describe() == "nothing corrected"


@pytest.mark.parametrize(
    "junk",
    [
        {},
        [],
        {"sigmas": {"sigma_x_nm": {}}},
        {"sigmas": {"sigma_x_nm": {"by_sigma": [[0, 1], [0]], "by_probability": [[0], [0]]}}},
        {"sigmas": {"sigma_x_nm": {"by_sigma": [[1, 0], [0, 0]], "by_probability": [[0], [0]]}}},
        {"sigmas": {"sigma_x_nm": {"by_sigma": [[0, 1], [0, -5]], "by_probability": [[0], [0]]}}},
        {"sigmas": {"sigma_x_nm": {"by_sigma": [[0], [0]], "by_probability": [[0, 1], [0, 1]]}}},
        {"sigmas": {"sigma_x_nm": {"by_sigma": [[0], [float("nan")]], "by_probability": [[0], [0]]}}},
        {"sigmas": {}, "probability": [[0, 1], [1, 0]]},
        {"sigmas": {}, "probability": [[], []]},
    ],
)
def test_what_is_no_correction_is_refused(junk: Any):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Correction.from_json(junk)


def decode(**change: Any) -> Decode:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        localizer = DecodeSettings(preset="tiny", **change).build(SCALES).eval()
        for weight in localizer.parameters():
            weight.add_(0.06 * torch.randn(weight.shape))
        localizer.net.leave.bias[:4] += 5.0  # detections are no longer rare
    return localizer


def frames(n: int = 9, side: int = 48) -> Frames:
    generator = torch.Generator().manual_seed(1)
    light = torch.poisson(10 + 100 * (torch.rand(n, 1, side, side, generator=generator) > 0.98).float(), generator=generator)
    return Frames(light, SCALES.pixel_size_nm)


def test_a_localizer_applies_it_however_the_frames_are_cut():
    localizer = decode()
    plain = localizer(frames())
    localizer.correction = CORRECTION
    whole = localizer(frames())
    expected = CORRECTION.apply(plain, SCALES.pixel_size_nm)
    parts = Localizations.concat([localizer(frames(), (start, start + 3), 24) for start in (0, 3, 6)])
    assert len(plain) > 20
    for name in plain.columns:
        np.testing.assert_array_equal(whole.columns[name], expected.columns[name])
        np.testing.assert_allclose(parts.columns[name], whole.columns[name], rtol=2e-3, atol=2e-3)
    assert not np.array_equal(plain.sigma_x_nm, whole.sigma_x_nm)


def test_the_usual_rows_are_those_without_it_and_a_threshold_cuts_what_is_reported():
    localizer = decode()
    usual = localizer(frames())
    localizer.correction = CORRECTION
    assert len(localizer(frames())) == len(usual)
    localizer.threshold = 0.9
    few = localizer(frames())
    localizer.threshold = None
    assert 0 < len(few) < len(usual)
    assert few.probability.min() >= 0.9 - 1e-5
    assert len(few) == (localizer(frames()).probability > 0.9).sum()
