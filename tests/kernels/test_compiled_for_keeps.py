"""Code that is compiled and kept on disk is renewed with what it is made of.

The compiler keeps its work beside a file until that file changes; what the file imports may change unnoticed, and old code would go on to
give old results. So each such file names a digest of what it imports, and changes with it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

import pytest

import denseloc

ROOT = Path(denseloc.__file__).parent
KEEPS = re.compile(r"^@(whole|fast|inside)$|cache=True", re.MULTILINE)
DIGEST = re.compile(r'^MADE_OF = "(\w+)"', re.MULTILINE)


def ingredients(file: Path) -> list[Path]:
    """List the files of the package that a file imports from when it is loaded."""
    found = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            base = file.parents[node.level - 1].joinpath(*node.module.split("."))
            found.append(base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py")
    return sorted(set(found))


def kept() -> list[Path]:
    """List the files whose compiled code is kept and made of more than themselves."""
    return [file for file in sorted(ROOT.rglob("*.py")) if KEEPS.search(file.read_text(encoding="utf-8")) and ingredients(file)]


def test_the_fits_are_among_them() -> None:
    assert {"fused.py", "fused_spot.py", "fused_verdict.py", "numba_cpu.py"} <= {file.name for file in kept()}


@pytest.mark.parametrize("file", kept(), ids=lambda file: str(file.relative_to(ROOT)))
def test_compiled_code_is_renewed_with_what_it_is_made_of(file: Path) -> None:
    text = "".join(one.read_text(encoding="utf-8") for one in ingredients(file))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    said = DIGEST.search(file.read_text(encoding="utf-8"))
    assert said is not None, f'{file}: say MADE_OF = "{digest}"'
    assert said[1] == digest, f'{file} is made of other code now: say MADE_OF = "{digest}", so that it is compiled again'
