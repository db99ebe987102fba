"""What the pages tell people to type exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import denseloc

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"\bdenseloc ([a-z]+)((?: +[^#`\n]*)?)")
VERB = re.compile(r"\bdl\.(\w+)\(")


def typed() -> dict[str, set[str]]:
    """Collect the commands of the pages' shell blocks and code words, with their options."""
    found: dict[str, set[str]] = defaultdict(set)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`(denseloc [^`\n]+)`", text)
        for command, rest in (match for block in code for match in COMMAND.findall(block)):
            found[command] |= set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest))
    return found


def test_commands_are_found_on_the_pages():
    assert {"localize", "train", "simulate", "render", "report", "evaluate", "calibrate"} <= set(typed())
    assert {"-o", "--pixel-size-nm", "--camera", "--frames", "--roi"} <= typed()["localize"]


@pytest.mark.skipif(not (ROOT / "src" / "denseloc" / "cli" / "__init__.py").exists(), reason="there is no command yet")
@pytest.mark.parametrize("command", sorted(typed()))
def test_command_and_its_options_exist(command):
    call = [sys.executable, "-c", "import sys; from denseloc.cli import main; sys.argv[0] = 'denseloc'; main()", command, "--help"]
    wide = {**os.environ, "COLUMNS": "250", "TERM": "dumb", "NO_COLOR": "1"}
    answer = subprocess.run(call, capture_output=True, text=True, env=wide, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", answer.stdout))
    assert typed()[command] <= known


@pytest.mark.skipif(len(denseloc.__all__) == 1, reason="there are no verbs yet")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_verbs_exist(page):
    for name in VERB.findall(page.read_text(encoding="utf-8")):
        assert name in denseloc.__all__
        assert callable(getattr(denseloc, name))
        assert callable(getattr(denseloc, name)), "still callable after its first use"
