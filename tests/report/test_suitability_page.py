"""The page of a check: numbers with their errors, and captions that speak of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import movie_from_array
from denseloc.report.suitability import with_error
from denseloc.verbs import check


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (6.6234, 0.0443, "6.623 ± 0.044"),
        (0.957, 0.000339, "0.95700 ± 0.00034"),
        (-0.0491, 0.000574, "\u22120.04910 ± 0.00057"),
        (471.2, 21.5, "471 ± 22"),
        (12345.6, 250.0, "12\u2009346 ± 250"),
        (1.0, 1e-9, "1.000000 ± 0.000000"),
    ],
)
def test_a_number_has_the_digits_that_its_error_allows(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


def test_a_page_without_drawn_scenes_does_not_speak_of_them(tmp_path) -> None:
    empty = movie_from_array(np.random.default_rng(0).normal(100, 5, (40, 40, 40)).astype(np.float32), "empty")
    assert check("astigmatic-demo", empty, tmp_path / "page.html", device="cpu").verdict == "fail"
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Movie, and the model&#39;s picture of it." in page
    assert not any(words in page for words in ("frame drawn", "drawn from its document", "Should look alike"))
