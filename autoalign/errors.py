"""Every error that AutoAlign raises on purpose.

    AutoAlignError                      exit code 1
    ├── InputError (ValueError)         exit code 2: the user's input is wrong
    │   ├── ConfigError                 a key, a value or a config file
    │   ├── DataError                   a row of a data file: file, line, field
    │   ├── TemplateError               a chat template or what it was asked to render
    │   ├── ModelError                  a model folder
    │   ├── MissingDependency (ImportError)
    │   └── UnknownName (LookupError)   a plugin that does not exist
    ├── JobFailed (RuntimeError)        exit code 1: the work itself failed
    │   └── ResourcesMissing            the cluster never had room for it
    └── StoppedEarly (RuntimeError)     exit code 3: stopped, with its state saved

A message says what was found, where, and what to do. All of them survive
pickling, because they cross Ray's process boundary.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutoAlignError(Exception):
    """Root of the tree; `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(AutoAlignError, ValueError):
    """What the user gave is wrong; one message, no traceback."""

    exit_code = 2


class ConfigError(InputError):
    """A config file, a key or a value."""


class DataError(InputError):
    """A row of a data file. `str()` reads `FILE:LINE: FIELD: what is wrong`.

    Args:
        message: what was found and what was expected.
        file: the data file, as the user named it.
        line: 1-based line (JSON, JSONL, CSV) or row (Parquet).
        field: dotted path inside the row, such as `conversations[1].from`.
    """

    def __init__(
        self,
        message: str,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message, file, line, field)
        self.message, self.file, self.line, self.field = message, file, line, field

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.field, self.message) if part)


class TemplateError(InputError):
    """A chat template that can't be found, can't be read, or refuses a conversation."""


class ModelError(InputError):
    """A model folder that is missing, incomplete or of the wrong kind."""


class MissingDependency(InputError, ImportError):
    """An optional library is not installed; the message holds the install command."""


class UnknownName(InputError, LookupError):
    """A name that no plugin carries; the message lists the names there are."""


class JobFailed(AutoAlignError, RuntimeError):
    """The job ran and failed."""


class ResourcesMissing(JobFailed):
    """The job waited for a cluster's resources in vain; nothing of it ran."""


class StoppedEarly(AutoAlignError, RuntimeError):
    """The job was stopped from outside and saved its state first."""

    exit_code = 3


def nearest(name: str, valid: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest valid name, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
