"""Rows of a file by their number, read no further than what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoalign import formats
from autoalign.errors import DataError
from autoalign.formats import RawRow
from autoalign.formats._stream import FileReader, Wanted
from autoalign.formats._types import Purpose

KEPT = 256


class RowWindow:
    """The last 256 rows that were read; earlier ones are read again from the file's start."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self._reader = formats.read_rows(self.path)
        self._kept: dict[int, RawRow] = {}
        self.read = 0

    def get(self, number: int) -> RawRow | None:
        """Row `number`, 1-based; None past the end, and then `read` is how many there are.

        Raises:
            DataError: the file cannot be read at all.
        """
        if number in self._kept:
            return self._kept[number]
        if number <= self.read:
            self._open()
        while self.read < number:
            row = self._next()
            if row is None:
                return None
            self.read += 1
            self._kept[self.read] = row
            self._kept.pop(self.read - KEPT, None)
        return self._kept[number]

    def _next(self) -> RawRow | None:
        """Where reading ends half-way, the reason is the last row."""
        try:
            return next(self._reader, None)
        except DataError as error:
            if not self.read:
                raise
            return RawRow(error.line or 0, None, error)

    def find(self, text: str, start: int) -> int | None:
        """The first row from `start` on that holds `text` in one of its values; capitals don't matter."""
        wanted = text.casefold()
        number = start
        while (row := self.get(number)) is not None:
            if any(wanted in value.casefold() for value in _texts(row.value)):
                return number
            number += 1
        return None


def record_of(path: str, raw: RawRow, format: str | None) -> formats.Record | DataError:
    """What the row says, whether it ends in an answer or asks for one; or what is wrong with it."""
    purposes: tuple[Purpose, ...] = ("answers", "prompts")
    problems: list[DataError] = []
    for purpose in purposes:
        reader = FileReader(
            path, Wanted(None, format, purpose), lambda error, _: problems.append(error), iter([raw])
        )
        for record in reader.records():
            return record
    return problems[isinstance(raw.value, str)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
