"""The errors and warnings that smlmkit raises.

Every error is a :class:`SmlmkitError` and also the built-in exception that Python programmers
expect, so both ``except SmlmkitError`` and ``except ValueError`` work.
"""

from collections.abc import Mapping
from typing import NamedTuple


class SmlmkitError(Exception):
    """Base class of every error that smlmkit raises on purpose."""


class InvalidInputError(SmlmkitError, ValueError):
    """A value that smlmkit cannot work with."""


class InvalidTypeError(SmlmkitError, TypeError):
    """An object of a kind that smlmkit does not take."""


class FileFormatError(SmlmkitError, ValueError):
    """A file that is not what it should be: the message names the file and the place."""


class ModelFileError(FileFormatError):
    """A model file that is damaged, of another version, or no model at all."""


class OutputError(SmlmkitError, OSError):
    """An output that could not be written; nothing half-written stays behind."""

    def __str__(self) -> str:
        # Its number is for programs.
        return self.strerror or super().__str__()


class ChangedRunError(SmlmkitError, ValueError):
    """A run that is to go on with other data or parameters; the message names what changed."""


class StoppedError(SmlmkitError, RuntimeError):
    """Work that ended before it was done because it was told to."""


class ClusterError(SmlmkitError, RuntimeError):
    """A Dask cluster that is not there, or lost its scheduler or the workers of a job."""


class TrainingDivergedError(SmlmkitError, ArithmeticError):
    """Training whose loss is no longer a finite number."""


class SmlmkitWarning(UserWarning):
    """Base class of every warning that smlmkit gives."""


class UnusedRows(NamedTuple):
    """Which rows of a table could not be used for one reason.

    Parameters
    ----------
    n : int
        How many they are.
    first : list of int
        The first few of them, counted from 0.
    """

    n: int
    first: list[int]


class UnusedRowsWarning(SmlmkitWarning):
    """Rows of a table that could not be used, with their number and the reason.

    Parameters
    ----------
    message : str
        What people are told.
    reasons : mapping of str to UnusedRows, optional
        Which rows, by reason, as far as that is known.
    """

    def __init__(self, message: str, reasons: Mapping[str, UnusedRows] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})


class EmptyPredictionWarning(SmlmkitWarning):
    """A network that sees nothing in a table that holds localizations."""


class UnfamiliarTableWarning(SmlmkitWarning):
    """A table that is far from those which a network was trained on, with by how much."""


class FitInterruptedWarning(SmlmkitWarning):
    """Training stopped early on Ctrl-C; the weights reached so far are kept."""
