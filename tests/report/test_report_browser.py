"""The page in a browser: pictures load, nothing complains, nothing is wider than the window."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import Image, Localizations
from denseloc.report import judge, write_report

pytestmark = pytest.mark.browser

LONG = "denseloc localize " + "/a/very/long/path" * 12 + "/fibres.tif --model " + "m" * 120

TOO_WIDE = """
[...document.querySelectorAll('main *')]
    .filter(e => !e.closest('.scroll, pre') && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.outerHTML.slice(0, 80))
"""


def pages(simulator, folder):
    """Write a page with warnings and long words, and a page of an empty table."""
    run = simulator(per_frame=40.0, n_frames=60, psf_of_data_nm=190.0)
    common = {"run": {"command": LONG, "model": "x" * 200}, "title": "A" * 90}
    warnings = [*judge(run.table, run.samples, ranges={"density_per_um2": (0.0, 0.1)}), "w" * 150]
    full = folder / "full.html"
    write_report(
        full, table=run.table, image=run.image, movie=run.movie, sample=run.samples, warnings=warnings, ranges=run.ranges, **common
    )
    empty = folder / "empty.html"
    blank = Image(np.zeros((300, 300), np.float32), (10.0, 10.0))
    write_report(
        empty, table=Localizations.empty(), image=blank, movie=None, sample=[], warnings=["Nothing was localized."], **common
    )
    return {full: 23, empty: 1}


def test_the_page_in_a_browser(chromium, simulator, tmp_path):
    for page, n_images in pages(simulator, tmp_path).items():
        for width in (1280, 400):
            chromium.open(page, width)
            assert chromium.evaluate("innerWidth") == width
            widths = chromium.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
            assert len(widths) == n_images
            assert min(widths) > 0
            assert chromium.evaluate("document.scrollingElement.scrollWidth") <= width
            assert chromium.evaluate(TOO_WIDE) == []
            assert chromium.complaints() == []
            assert [url[:80] for url in chromium.requests() if not url.startswith("data:")] == [page.as_uri()[:80]]
            chromium.screenshot(tmp_path / f"{page.stem}_{width}.png")
            assert (tmp_path / f"{page.stem}_{width}.png").stat().st_size > 10_000


def test_the_check_can_fail(chromium, tmp_path):
    """A page with a broken picture, an error and a wide box is caught by the same questions."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<img src="missing.png"><div style="width:2000px">x</div><script>console.error("odd"); nothing();</script>',
        encoding="utf-8",
    )
    chromium.open(page, 400)
    assert chromium.evaluate("document.images[0].naturalWidth") == 0
    assert chromium.evaluate("document.scrollingElement.scrollWidth") > 400
    assert any("odd" in text for text in chromium.complaints())
    assert len(chromium.requests()) == 2
