"""Rows of a benchmark's file, with messages that name file, line and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign.errors import DataError
from autoalign.formats import read_rows


@dataclass(frozen=True)
class Row:
    """One row; `fields` as they stand in the file."""

    path: Path
    line: int
    fields: Mapping[str, Any]

    def text(self, *keys: str) -> str:
        """The value at the first of `keys` that is there.

        Raises:
            DataError: none is, or it is no text.
        """
        for key in keys:
            value = self.fields.get(key)
            if isinstance(value, str) and value.strip():
                return value
            if isinstance(value, int | float) and not isinstance(value, bool):
                return str(value)
        wanted = " or ".join(f"'{key}'" for key in keys)
        raise DataError(f"{wanted} is missing or no text", str(self.path), self.line)

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts in a list.

        Raises:
            DataError: there is none, or no list of texts.
        """
        value = self.fields.get(key)
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise DataError(f"'{key}' is missing or no list of texts", str(self.path), self.line)

    def id(self, *keys: str) -> str:
        """The row's own id, or its line."""
        for key in keys:
            value = self.fields.get(key)
            if isinstance(value, str | int) and str(value):
                return str(value)
        return str(self.line)


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a JSON, JSONL, CSV or Parquet file (also .gz).

    Raises:
        DataError: the file or a row can't be read.
    """
    for raw in read_rows(str(path)):
        if raw.problem is not None:
            raise raw.problem
        if not isinstance(raw.value, Mapping):
            raise DataError("an object is expected", str(path), raw.line)
        yield Row(path, raw.line, raw.value)
