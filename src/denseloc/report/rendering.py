"""Fill a template of this room and write the page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ..files import replacing


def rendered(template: str, context: Mapping[str, Any]) -> str:
    """Fill a template with words and plates."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(context)


def write_page(path: str | Path, page: str) -> None:
    """Write a page; it appears only when it is whole.

    Raises:
        OutputError: the file cannot be written there.
    """
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))  # names of files may hold what is no text


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
