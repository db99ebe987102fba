"""The demonstration: the main job on a small dense movie that comes with the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..blocks import Progress
from ..errors import OutputError
from ..evaluate import Assessment
from ..pipeline import Run, localize
from ..preparation import Preparation
from .assessment import evaluate
from .picture import check_picture, render
from .reporting import Report, check_report, report

MODEL = "astigmatic-demo"
MOVIE = "demo.tif"
TRUTH = "demo.truth.csv"


@dataclass(frozen=True)
class Demo:
    """What the demonstration left behind, and how good it is.

    Args:
        run: the localization, with the table.
        picture: PNG file.
        report: the report.
        assessments: against the truth, as from `evaluate`.
    """

    run: Run
    picture: Path
    report: Report
    assessments: dict[str, Assessment]


def source() -> Path:
    """Give the folder of the package that holds the movie and its truth."""
    return Path(str(resources.files("denseloc") / "demo"))


def demo(
    out: Path | str,
    *,
    prepared: Callable[[Preparation], None] = lambda _: None,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], int] = lambda: 0,
) -> Demo:
    """Localize the demonstration movie and write ``table.parquet``, ``picture.png`` and ``report.html`` into a folder.

    Args:
        out: folder; made if it is not there.
        prepared, progress, stop: as in `pipeline.localize`.

    Raises:
        OutputError: the folder or a file cannot be written.
        DenselocError: the package does not hold the movie or its model.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
    picture = folder / "picture.png"
    check_picture(picture)
    check_report(folder / "report.html")
    run = localize(source() / MOVIE, folder / "table.parquet", model=MODEL, prepared=prepared, report=progress, stop=stop)
    image = render(run.table, picture)
    page = report(run.table, folder / "report.html", image=image, title="The demonstration movie")
    return Demo(run, picture, page, evaluate(run.table, source() / TRUTH))
