"""Examples of sections for the contract tests, read from the sections themselves."""

from __future__ import annotations

from typing import Any

import pytest

from denseloc.description import Section


def example_of(section: type[Section]) -> dict[str, Any]:
    """Give values for a section: the first of the ``examples`` of each key that has some; a key without a default must have one."""
    bare = [key for key, field in section.model_fields.items() if field.is_required() and not field.examples]
    if bare:
        pytest.fail(f"{section.__name__}: {', '.join(bare)} without an example; declare it as Field(..., examples=[value])")
    given = {key: field.examples[0] for key, field in section.model_fields.items() if field.examples}
    return {"kind": section.model_fields["kind"].default, **given}
