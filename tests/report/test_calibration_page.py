"""The page of a calibration: whole, self-contained, in a browser of any width."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_report_browser import TOO_WIDE
from test_report_page import Page

from bead_stacks import PIXEL_NM, PLACES, bead_stack
from denseloc.calibrate.judge import Judgement, judge
from denseloc.calibrate.psf_fit import PSFFit, fit_half, fit_psf
from denseloc.errors import OutputError
from denseloc.optics import GaussianSettings, MultiplaneSettings
from denseloc.report import calibration_page, write_page

RUN = {"stacks": "/data/<beads>.tif: 13 planes of 48 x 48 px", "PSF": "psf.h5: kind astigmatic, 13 px wide", "notes": "one\ntwo"}
Z = np.linspace(-500, 500, 11)


def fitted(*stacks, kind: str = "astigmatic") -> PSFFit:
    return fit_psf(stacks, PIXEL_NM, kind, roi_px=13, map_step_nm=0, steps=60)


@pytest.fixture(scope="module")
def found() -> PSFFit:
    """Four beads are used; one lies at the edge."""
    return fitted(bead_stack(z_nm=Z, places=[*PLACES, (4000.0, 4000.0), (4710.0, 2440.0)], name="<beads>.tif"))


@pytest.fixture(scope="module")
def judged(found: PSFFit) -> Judgement:
    return judge(found)


@pytest.fixture(scope="module")
def html(found: PSFFit, judged: Judgement) -> str:
    return calibration_page(found, judged, run=RUN)


def checked(html: str) -> Page:
    """Check that nothing runs and nothing is loaded, and that each picture is whole; give the page."""
    bare = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.findall(r"https?://|//[a-z]+\.", bare)
    assert not re.search(r"url\(|@import|<script|<iframe|<object|\son\w+=", bare)
    page = Page(html)
    for image in page.images:
        assert image["alt"]
        assert image["src"].startswith("data:image/png;base64,")
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(image["src"].split(",", 1)[1])))
        assert picture.width / picture.height == pytest.approx(int(image["width"]) / int(image["height"]), rel=0.02)
        assert np.asarray(picture.convert("L")).std() > 5  # it is not blank
    assert all(link[1:] in page.ids for link in page.links)
    return page


def test_a_page_shows_everything(html: str) -> None:
    page = checked(html)
    assert len(page.images) == 1 + 3 + 4 + 1  # montage, curves, beads, field
    alts = [image["alt"] for image in page.images]
    assert alts[0] == "Mean of 4 beads, the PSF and the residual at 9 depths."
    assert any(alt.startswith("Errors of z against depth: ") for alt in alts)
    assert any(alt.startswith("Cramer-Rao bounds against depth for 1000 photons") for alt in alts)
    assert sum(alt.startswith("Bead ") for alt in alts) == 4
    assert alts[-1] == "Mean over <beads>.tif with 4 used and 1 rejected beads."
    for words in (
        "PSF of <beads>.tif",
        "4 of 5",
        "beads used",
        "chi2 per pixel",
        "usable range of z",
        "/data/<beads>.tif",
        "(--held-out) judges on",
        "too near to the edge",
        "x = column, y = row",
        '"kind": "astigmatic"',
    ):
        assert words in page.text, words
    assert re.search(r"3 +24 +47 +too near to the edge", page.text)
    assert {"psf", "errors", "beads", "field", "run", "conventions", "section"} <= page.ids


def test_numbers_of_the_page_are_those_of_the_judgement(html: str, judged: Judgement) -> None:
    text = Page(html).text
    error, bound = judged.z_rmse_and_bound_nm
    assert f"{error:.1f} nm error of the beads' z (RMSE)" in text
    assert f"{bound:.1f} nm its bound (CRLB)" in text
    assert f"{judged.chi2:.2f} chi2 per pixel" in text


def test_warnings_stand_on_top_and_what_was_held_out_is_said(found: PSFFit) -> None:
    rest, words = fit_half(found)
    result = replace(judge(found, rest), warnings=("<b>odd</b> & even", "second"))
    html = calibration_page(found, result, run=RUN, held_out=words, title="A <title>")
    text = checked(html).text
    assert "2 things to look at before you use this PSF" in text
    assert text.index("<b>odd</b> & even") < text.index("Beads and PSF over depth")
    assert 'class="verdict warn"' in html
    assert f"are those of a PSF {words}; the PSF in the file was fitted to all of them" in text
    assert "A <title>" in text
    assert "--held-out" not in text


def test_no_rejected_bead_and_panels_for_the_worst_of_many(
    found: PSFFit, judged: Judgement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denseloc.report.calibration.MOST_BEADS", 2)
    whole = replace(found, beads=tuple(found.used))
    html = calibration_page(whole, replace(judged, warnings=()), run=RUN)
    page = checked(html)
    assert "Nothing suspicious was found" in page.text
    assert 'class="verdict good"' in html
    assert "No bead was rejected" in page.text
    assert "4 of 4" in page.text
    assert len(page.images) == 1 + 3 + 2 + 1
    worst = {f"Bead {i + 1}" for i in np.argsort(-found.chi2_of_beads)[:2]}
    assert {image["alt"].split(":")[0] for image in page.images if image["alt"].startswith("Bead ")} == worst
    assert "Panels are drawn for the 2 of 4 beads" in page.text


def test_two_stacks_of_a_psf_without_depth() -> None:
    flat = GaussianSettings(width_nm=140, roi_px=21)
    found = fitted(bead_stack(flat, z_nm=Z[:5], name="a.tif"), bead_stack(flat, z_nm=Z[:6], name="b.tif"), kind="gaussian")
    page = checked(calibration_page(found, judge(found), run=RUN))
    assert "PSF of a.tif, b.tif" in page.text
    assert sum("Mean over " in image["alt"] for image in page.images) == 2
    assert any(image["alt"].startswith("Errors of x against depth") for image in page.images)
    assert "(RMSE)" not in page.text


def test_two_focal_planes_have_a_montage_each() -> None:
    truth = MultiplaneSettings(width_nm=140, plane_focus_nm=(-250, 250), depth_nm=400, transmission=(0.6, 0.4), roi_px=21)
    found = fitted(bead_stack(truth, z_nm=Z), kind="multiplane")
    page = checked(calibration_page(found, judge(found), run=RUN))
    assert [image["alt"] for image in page.images if "focal plane" in image["alt"]] == [
        f"Mean of 3 beads, the PSF and the residual at 9 depths, focal plane {plane} of 2." for plane in (1, 2)
    ]


def test_the_same_fit_gives_the_same_page(html: str, found: PSFFit, judged: Judgement, tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", calibration_page(found, judged, run=RUN))
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == html
    with pytest.raises(OutputError, match="does not exist"):
        write_page(tmp_path / "no" / "a.html", "")


@pytest.mark.browser
def test_the_page_in_a_browser(chromium, found: PSFFit, judged: Judgement, tmp_path: Path) -> None:
    long = {**RUN, "stacks": "/a/very/long/path" * 12 + "/beads.tif"}
    page = tmp_path / "psf.report.html"
    write_page(page, calibration_page(found, replace(judged, warnings=("w" * 150,)), run=long, title="A" * 90))
    for width in (1280, 400):
        chromium.open(page, width)
        assert chromium.evaluate("innerWidth") == width
        widths = chromium.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
        assert len(widths) == 9
        assert min(widths) > 0
        assert chromium.evaluate("document.scrollingElement.scrollWidth") <= width
        assert chromium.evaluate(TOO_WIDE) == []
        assert chromium.complaints() == []
        assert [url[:80] for url in chromium.requests() if not url.startswith("data:")] == [page.as_uri()[:80]]
