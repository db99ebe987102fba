"""Check whether a model suits a movie: verdict, what to do about it, and a page to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..camera import Camera
from ..data import Movie
from ..errors import ModelError, OutputError
from ..examination import examine
from ..files import check_writable
from ..formats import open_movie
from ..machine import choose_device
from ..model_choice import other_pixels
from ..model_file import Model, find_model
from ..preparation import Preparation, prepare
from ..report import check_page, write_page
from ..suitability import Checked, Finding, Suitability
from ..units import PixelSize


@dataclass(frozen=True)
class Check:
    """What a check found.

    Args:
        suitability: verdict, findings from causes to symptoms, and the numbers they rest on.
        lines: what was measured or assumed of the movie.
        page: the report, or None.
    """

    suitability: Suitability
    lines: tuple[str, ...] = ()
    page: Path | None = None

    @property
    def verdict(self) -> str:
        """``pass``, ``warn`` or ``fail``."""
        return self.suitability.verdict

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {**self.suitability.to_json(), "assumed": list(self.lines)}


def check(
    model: Model | Path | str,
    movie: Movie | Path | str,
    report: Path | str | None = None,
    *,
    pixel_size_nm: float | tuple[float, float] | None = None,
    camera: Camera | None = None,
    planes: int | None = None,
    roi_px: tuple[int, int, int, int] | None = None,
    device: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Check:
    """Say whether a trained model suits a movie, by comparing it with scenes drawn from the model's own document.

    Args:
        model: the model, its file, or the name of a shipped one.
        movie: the movie, or its file or folder.
        report: page to write, ending in .html; None for none.
        pixel_size_nm: camera pixel in the sample, one number or (y, x); None takes what the movie or the model says.
        camera: turns counts into photons; None takes that of the model's document, or measures it for a model that serves many.
        planes: focal planes of a frame, where they follow one another as images of the file.
        roi_px: region (y0, x0, height, width) to look at.
        device: ``cpu`` or ``cuda``; the best there is if None.
        progress: told what is going on.

    Raises:
        MovieError: the movie cannot be read or judged: other planes, too short, dark, full.
        ModelError: no such model, or a method that was not trained.
        OutputError: the page cannot be written.
    """
    page = _page(report)
    found = model if isinstance(model, Model) else find_model(model)
    if not found.experiment.localizer.needs_training:
        raise ModelError(f"{found.name} is a method without training, so there is nothing it was trained on; give a trained model")
    opened = movie if isinstance(movie, Movie) else open_movie(movie)
    opened = (opened if planes is None else opened.with_planes(planes)).crop(None, roi_px)
    text = other_pixels(found, pixel_size_nm or opened.pixel_size_nm)
    ready: Preparation | None = None
    if text:
        checked = Checked(Suitability((Finding("pixels", "fail", text),)))
    else:
        chosen = choose_device(device)
        progress("measuring camera and conditions")
        ready = prepare(opened, found, pixel_size_nm, camera, device=chosen)
        checked = examine(opened, ready, progress=progress)
        if pixel_size_nm is None and opened.pixel_size_nm is None:
            checked = replace(checked, suitability=_with_pixels_taken(checked.suitability, ready.pixel_size_nm))
    lines = tuple(ready.lines) if ready else ()
    if page is not None:
        progress("writing the report")
        run = {"model": found.name, "movie": opened.name}
        run |= {
            name: value
            for name, colon, value in (line.partition(": ") for line in lines)
            if colon and name not in ("note", "model")
        }
        write_page(page, check_page(checked, f"Does {found.name} suit {opened.name}?", run))
    return Check(checked.suitability, lines, page)


def _with_pixels_taken(suits: Suitability, size: PixelSize) -> Suitability:
    """Note that the pixel size is the model's, which the movie could not confirm."""
    note = (
        f"the movie does not say its pixel size, {size[1]:g} nm was taken as the model was trained for that; give --pixel-size-nm (in Python "
        "pixel_size_nm) to have it compared"
    )
    return replace(suits, notes=(*suits.notes, note))


def _page(report: Path | str | None) -> Path | None:
    """Check, before the work, that the page can be written."""
    if report is None:
        return None
    page = Path(report)
    if page.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"page {page.name}: expected a name that ends in .html; rename it")
    check_writable(page)
    return page
