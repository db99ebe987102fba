"""What all pages share stands in one place: head, style, policy and the last line."""

from __future__ import annotations

from importlib import resources

import pytest

PAGES = [
    file
    for file in resources.files("denseloc.report").iterdir()
    if file.name.endswith(".html") and file.name not in ("base.html", "parts.html")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_no_head_of_its_own(page) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith('{% extends "base.html" %}')
    assert not any(words in text for words in ("<head", "style.css", "Content-Security-Policy", "<footer"))


def test_there_are_pages() -> None:
    assert len(PAGES) == 6
