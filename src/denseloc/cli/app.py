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
from . import analysis, design, house
from .signals import Abandoned
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
    (analysis.render, analysis.RENDER_EXAMPLES),
    (analysis.report, analysis.REPORT_EXAMPLES),
    (analysis.evaluate, analysis.EVALUATE_EXAMPLES),
    (design.simulate, design.SIMULATE_EXAMPLES),
    (design.train, design.TRAIN_EXAMPLES),
    (design.calibrate, design.CALIBRATE_EXAMPLES),
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
    """Run the command and give its exit code: 0 done, 2 bad input, 130 or 143 ended by a signal.

    Args:
        arguments: what stands after ``denseloc``; None takes those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    with warnings.catch_warnings():
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
        except MemoryError:
            return complain(OUT_OF_MEMORY, 2)
        except OSError as error:
            return complain(_explained(error), 2)
        except Exception as error:
            if "out of memory" in str(error) or "allocate memory" in str(error):
                return complain(OUT_OF_MEMORY, 2)
            if os.environ.get("DENSELOC_DEBUG"):
                raise
            text = " ".join(str(error).split())[:200]
            return complain(
                f"unexpected: {type(error).__name__}: {text}\nplease report this; DENSELOC_DEBUG=1 shows where it came from", 2
            )
    if code == 130:
        return complain("aborted", 130)
    return code if isinstance(code, int) else 0


OUT_OF_MEMORY = "out of memory; take a smaller --tile-px or --block-frames, a part of the field with --roi, or a larger machine"


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
