"""The floors: every file of the package imports only from floors below its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "denseloc"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "units", "description", "documents", "files", "machine", "kernels"),
    ("data",),
    ("optics", "camera", "specimen"),
    ("microscope",),
    ("fit", "evaluate", "correct", "render", "formats", "selection"),
    ("localize", "calibrate"),
    ("train", "survey"),
    ("experiment", "optics_document", "suitability"),
    (
        "model_file",
        "model_choice",
        "report",
        "journal",
        "picture_sum",
        "preparation",
        "blocks",
        "examination",
        "pipeline",
        "training",
        "verbs",
    ),
    ("cli", "viewer", "napari", "__main__"),
)

NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "files": ("errors",),
    "description": ("errors",),
    "documents": ("errors",),
    "units": ("errors",),
    "machine": ("errors",),
    "optics_document": ("experiment",),
    "suitability": ("experiment",),
    "model_choice": ("model_file",),
    "preparation": ("model_file", "model_choice"),
    "picture_sum": ("journal",),
    "blocks": ("preparation", "journal"),
    "examination": ("preparation",),
    "pipeline": ("model_file", "preparation", "journal", "picture_sum", "blocks", "examination"),
    "training": ("model_file",),
    "__main__": ("cli",),
    "verbs": ("model_file", "model_choice", "preparation", "journal", "blocks", "examination", "pipeline", "training", "report"),
}
"""Rooms on one floor that may see each other: on floor 0 everything rests on the errors, on floor 8 model files come first, verbs last."""

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Give line and room of every import of the package in a file, at any depth of the code."""
    package = ("denseloc", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(text)):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = base + tuple((node.module or "").split(".") if node.module else ())
            names = [(*module, alias.name) for alias in node.names]
        for name in names:
            if name[0] == "denseloc" and len(name) > 1:
                yield node.lineno, name[1]


def offences(path: Path, text: str) -> list[str]:
    room = room_of(path)
    found = []
    for line, other in imported_rooms(path, text):
        where = f"src/denseloc/{path.relative_to(ROOT)}:{line}"
        if other in ("__version__", room):
            continue
        if other not in FLOOR_OF:
            found.append(f"{where}: '{other}' has no floor; put it into FLOORS")
        elif FLOOR_OF[other] > FLOOR_OF[room]:
            found.append(f"{where}: {room} (floor {FLOOR_OF[room]}) imports {other} from floor {FLOOR_OF[other]} above")
        elif FLOOR_OF[other] == FLOOR_OF[room] and other not in NEIGHBOURS.get(room, ()):
            found.append(f"{where}: {room} imports {other}, its neighbour on floor {FLOOR_OF[room]}")
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms <= set(FLOOR_OF), f"rooms without a floor: {', '.join(sorted(rooms - set(FLOOR_OF)))}; put them into FLOORS"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards(path: Path) -> None:
    if path == ROOT / "__init__.py":
        pytest.skip("the front door offers the verbs, which load on first use")
    if room_of(path) not in FLOOR_OF:
        pytest.fail(f"src/denseloc/{path.relative_to(ROOT)}: its room has no floor; put it into FLOORS")
    found = offences(path, path.read_text(encoding="utf-8"))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("data/x.py", "from ..optics import PSF", "x.py:1: data (floor 1) imports optics from floor 2 above"),
        ("data/x.py", "from .. import optics", "data (floor 1) imports optics"),
        ("data/x.py", "import denseloc.optics.base", "data (floor 1) imports optics"),
        (
            "camera/deep/x.py",
            "def f():\n    from ...specimen.base import Specimen",
            "x.py:2: camera imports specimen, its neighbour",
        ),
        ("evaluate/x.py", "if True:\n    from denseloc.render import draw", "evaluate imports render, its neighbour on floor 4"),
        ("model_file.py", "from .pipeline import localize", "model_file imports pipeline, its neighbour on floor 8"),
        ("kernels/op/x.py", "from ...data import Grid", "kernels (floor 0) imports data"),
        ("train/x.py", "from ..cellar import wine", "'cellar' has no floor"),
    ],
)
def test_the_check_finds(file: str, text: str, words: str) -> None:
    found = offences(ROOT / file, text)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("verbs.py", "from .pipeline import localize\nfrom .report import page"),
        ("train/x.py", "from ..localize.base import Localizer\nfrom .loop import Trainer\nimport torch"),
        ("formats/x.py", "from .. import __version__\nfrom . import tiff"),
    ],
)
def test_the_check_lets_pass(file: str, text: str) -> None:
    assert offences(ROOT / file, text) == []


CHILD = """
import sys, time
import torch
start = time.process_time()
import denseloc
seconds = time.process_time() - start
dir(denseloc)
import denseloc.experiment
heavy = [m for m in ("matplotlib", "napari", "tkinter", "PyQt5", "PyQt6", "PySide6", "typer", "h5py") if m in sys.modules]
print(seconds, torch.cuda.is_initialized(), ",".join(heavy) or "none", "__version__" in dir(denseloc))
"""


def test_importing_is_quick_and_touches_nothing() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr
    seconds, cuda, heavy, version = child.stdout.split()
    assert float(seconds) < 1.0
    assert (cuda, heavy, version) == ("False", "none", "True")
