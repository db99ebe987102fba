"""The error tree. Every error says what was found, what was expected and what to do."""

from __future__ import annotations


class DenselocError(Exception):
    """Base of all errors that a user can mend; the command prints it in one or two lines and exits with ``exit_code``."""

    exit_code = 2


class DocumentError(DenselocError):
    """A document has an unknown key, a wrong unit, a missing or an impossible value."""


class MovieError(DenselocError):
    """A movie cannot be read, or does not hold what a single-molecule movie holds."""


class TableError(DenselocError):
    """A table of localizations or emitters cannot be read or written."""


class CameraError(DenselocError):
    """Camera settings are missing or impossible."""


class CalibrationError(DenselocError):
    """A PSF or a camera cannot be calibrated from the data given."""


class ModelError(DenselocError):
    """A model file is damaged, too new, or does not suit the movie."""


class OutputError(DenselocError):
    """The output cannot be written where it was asked for."""


class TrainingError(DenselocError):
    """Training cannot start or cannot go on."""


class Interrupted(DenselocError):
    """The run was ended by a signal; finished blocks are kept."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NoGain(DenselocError):
    """What was made is no better than what it was made from, and was not written."""

    exit_code = 3
