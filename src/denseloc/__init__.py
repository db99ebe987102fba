"""denseloc: from a dense single-molecule movie to localizations and a super-resolved picture.

    import denseloc as dl

    run = dl.localize("movie.tif", "table.parquet", pixel_size_nm=100)
    dl.render("table.parquet", "picture.png")

The verbs load on first use, so that importing the package touches no GPU, no file and no GUI toolkit. Some verbs share their name with
the room in which their work is done (``denseloc.localize`` is the folder of published methods, too); such a room can be called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_VERBS: dict[str, str] = {
    "localize": ".pipeline",
    "train": ".training",
    "simulate": ".verbs",
    "evaluate": ".verbs",
    "render": ".verbs",
    "report": ".verbs",
    "calibrate": ".verbs",
    "check": ".verbs",
    "compress": ".verbs",
    "convert": ".verbs",
    "inspect": ".verbs",
    "plan": ".verbs",
    "recalibrate": ".verbs",
    "adapt": ".verbs",
    "refine": ".verbs",
    "design": ".verbs",
    "demo": ".verbs",
    "Experiment": ".experiment",
    "Emitters": ".data",
    "Frames": ".data",
    "Image": ".data",
    "Localizations": ".data",
    "Movie": ".data",
    "iter_table": ".formats",
    "open_movie": ".formats",
    "read_psf": ".formats.psf_files",
    "read_table": ".formats",
    "write_psf": ".formats.psf_files",
    "write_table": ".formats",
    "find_model": ".model_file",
    "load_model": ".model_file",
    "save_model": ".model_file",
    "shipped_models": ".model_file",
    "parse_camera": ".preparation",
    "read_camera": ".preparation",
}
_CALLABLE_ROOMS = frozenset({"localize", "train", "evaluate", "render", "report", "calibrate"})

__all__ = ["__version__", *_VERBS]


def _verb(name: str) -> Any:
    return getattr(import_module(_VERBS[name], "denseloc"), name)


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_ROOMS:
        return import_module(f".{name}", __name__)
    if name in _VERBS:
        return _verb(name)
    raise AttributeError(f"module 'denseloc' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


class _CallableRoom(ModuleType):
    """A room whose name is a verb as well: calling it does what the verb says."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _verb(self.__name__.rpartition(".")[2])(*args, **kwargs)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(_verb(self.__name__.rpartition(".")[2]))


class _Package(ModuleType):
    """This package; it makes the rooms callable when the import system hands them over."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLABLE_ROOMS and type(value) is ModuleType:
            value.__class__ = _CallableRoom
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if TYPE_CHECKING:
    from .data import Emitters as Emitters
    from .data import Frames as Frames
    from .data import Image as Image
    from .data import Localizations as Localizations
    from .data import Movie as Movie
    from .experiment import Experiment as Experiment
    from .formats import iter_table as iter_table
    from .formats import open_movie as open_movie
    from .formats import read_table as read_table
    from .formats import write_table as write_table
    from .formats.psf_files import read_psf as read_psf
    from .formats.psf_files import write_psf as write_psf
    from .model_file import find_model as find_model
    from .model_file import load_model as load_model
    from .model_file import save_model as save_model
    from .model_file import shipped_models as shipped_models
    from .pipeline import localize as localize
    from .preparation import parse_camera as parse_camera
    from .preparation import read_camera as read_camera
    from .training import train as train
    from .verbs import calibrate as calibrate
    from .verbs import check as check
    from .verbs import compress as compress
    from .verbs import convert as convert
    from .verbs import demo as demo
    from .verbs import design as design
    from .verbs import evaluate as evaluate
    from .verbs import inspect as inspect
    from .verbs import plan as plan
    from .verbs import recalibrate as recalibrate
    from .verbs import refine as refine
    from .verbs import render as render
    from .verbs import report as report
    from .verbs import simulate as simulate
