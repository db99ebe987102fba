"""The commands on one list, and the one place where errors become a line on stderr and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import DenselocError
from . import (
    adaptation,
    analysis,
    calibration,
    checking,
    compression,
    conversion,
    design,
    house,
    inspection,
    optics_design,
    planning,
    refinement,
    tables,
)
from .signals import Abandoned, clearing_up
from .words import complain, note

ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="denseloc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a dense single-molecule movie to a table of localizations, a super-resolved picture and a report.",
)

COMMANDS: tuple[tuple[Callable[..., None], tuple[str, ...]], ...] = (
    (analysis.localize, analysis.LOCALIZE_EXAMPLES),
    (refinement.refine, refinement.REFINE_EXAMPLES),
    (tables.render, tables.RENDER_EXAMPLES),
    (tables.report, tables.REPORT_EXAMPLES),
    (tables.evaluate, tables.EVALUATE_EXAMPLES),
    (conversion.convert, conversion.CONVERT_EXAMPLES),
    (compression.compress, compression.COMPRESS_EXAMPLES),
    (design.simulate, design.SIMULATE_EXAMPLES),
    (design.train, design.TRAIN_EXAMPLES),
    (design.recalibrate, design.RECALIBRATE_EXAMPLES),
    (adaptation.adapt, adaptation.ADAPT_EXAMPLES),
    (optics_design.design, optics_design.DESIGN_EXAMPLES),
    (calibration.calibrate, calibration.CALIBRATE_EXAMPLES),
    (inspection.inspect, inspection.INSPECT_EXAMPLES),
    (planning.plan, planning.PLAN_EXAMPLES),
    (checking.check, checking.CHECK_EXAMPLES),
    (house.models, house.MODELS_EXAMPLES),
    (house.doctor, house.DOCTOR_EXAMPLES),
    (house.demo, house.DEMO_EXAMPLES),
)


def _with_examples(text: str, examples: Sequence[str]) -> str:
    """Put examples under a help text, one a line as they stand."""
    return "\n\n".join([cleandoc(text), "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)])


for _command, _examples in COMMANDS:
    app.command(_command.__name__, help=_with_examples(_command.__doc__ or "", _examples))(_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"denseloc {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[bool, typer.Option("--version", help="Say the version and exit.", callback=_version, is_eager=True)] = False,
) -> None:
    """From a dense single-molecule movie to a table of localizations, a super-resolved picture and a report."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code: 0 done, 2 bad input, 3 nothing gained (adapt) or a check that failed, 130 or 143 ended by a signal.

    Args:
        arguments: what stands after ``denseloc``; None takes those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    with warnings.catch_warnings(), clearing_up():
        warnings.showwarning = lambda message, *_, **__: note(str(message))
        try:
            code = app(args=None if arguments is None else list(arguments), prog_name="denseloc", standalone_mode=False)
        except DenselocError as error:
            return complain(str(error), error.exit_code)
        except ClickException as error:
            return _misused(error)
        except (KeyboardInterrupt, typer.Abort):
            return complain("aborted", 130)
        except Abandoned as error:
            return complain("aborted at once", error.exit_code)
        except OSError as error:
            return complain(_out_of_memory(arguments) if error.errno == errno.ENOMEM else _explained(error), 2)
        except Exception as error:
            if _needs_memory(error):
                return complain(_out_of_memory(arguments), 2)
            if os.environ.get("DENSELOC_DEBUG"):
                raise
            text = " ".join(str(error).split())[:200]
            return complain(
                f"unexpected: {type(error).__name__}: {text}\nplease report this; DENSELOC_DEBUG=1 shows where it came from", 2
            )
    if code == 130:
        return complain("aborted", 130)
    return code if isinstance(code, int) else 0


LESS_MEMORY = {
    "localize": "take a smaller --tile-px or --block-frames, or a part of the field with --roi",
    "render": "take a larger --pixel-size-nm",
    "refine": "take a smaller --block-frames",
    "report": "take fewer rows with --min-probability, --max-sigma-nm or --min-photons",
    "evaluate": "take fewer rows with --min-probability, --max-sigma-nm or --min-photons",
    "simulate": "take a smaller --size or fewer --frames, or a lower density in the document",
    "train": "take a smaller batch_size or patch_px under [training], or a smaller preset under [localizer]",
    "design": "take a smaller roi_px or pupil_px under [psf], or a smaller batch_size or patch_px under [training]",
    "recalibrate": "take a smaller patch_px under [training] of the document and train again",
    "adapt": "take fewer --samples, or a part of the field with --roi",
    "calibrate": "take a smaller --roi-px",
    "plan": "take fewer --scenes or a lower --density",
    "check": "look at a part of the field with --roi",
}
"""What needs less memory, by command."""
NO_MEMORY = ("out of memory", "not enough memory", "allocate", "bad_alloc", "bad allocation")
"""How libraries say that there was not enough memory."""


def _needs_memory(error: Exception) -> bool:
    """Whether an error says that there was not enough memory."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


def _out_of_memory(arguments: Sequence[str] | None) -> str:
    """Say which option of the command needs less memory."""
    words = sys.argv[1:] if arguments is None else arguments
    hint = next((LESS_MEMORY[word] for word in words if word in LESS_MEMORY), "close other programs")
    return f"out of memory; {hint}, or use a larger machine"


def _misused(error: Any) -> int:
    """Say what is wrong with the command line, in two lines."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2
    context = getattr(error, "ctx", None)
    path = "denseloc" if context is None else context.command_path
    message = " ".join(error.format_message().split()).rstrip(".")
    return complain(f"{message[:1].lower()}{message[1:]}\nsee: {path} --help", error.exit_code)


def _explained(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or write to another folder"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; check the file, its folder and its permissions"
