"""From a file's rows to records: the format found, each row parsed and held to the rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from autoalign.errors import DataError
from autoalign.formats._files import stem
from autoalign.formats._read import read_rows
from autoalign.formats._records import taken_apart
from autoalign.formats._rules import as_prompt, check_for_judging, check_for_training
from autoalign.formats._types import (
    Format,
    Kind,
    Purpose,
    RawRow,
    Record,
    Row,
    describe,
    format_names,
    get_format,
    short_name,
)
from autoalign.records import Conversation, PreferencePair

OnProblem = Callable[[DataError, RawRow], None]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the reader is asked for."""

    kind: Kind | None = None
    format: str | None = None
    purpose: Purpose = "train"


class FileReader:
    """Reads one file; `format` is known after the first row that has one.

    Args:
        path: local path or fsspec URL.
        wanted: kind, format and purpose.
        on_problem: called with each bad row, which is then left out.
        rows: a part of the file's rows; None reads all.
    """

    def __init__(
        self, path: str, wanted: Wanted, on_problem: OnProblem, rows: Iterator[RawRow] | None = None
    ) -> None:
        self.path, self.wanted, self.on_problem = path, wanted, on_problem
        self.format = get_format(wanted.format) if wanted.format else None
        self.rows = 0
        self._raw = rows
        if self.format:
            self._check_kind(self.format)

    def records(self) -> Iterator[Record]:
        """The good rows as records.

        Raises:
            DataError: the file cannot be read, or holds rows of another kind than wanted.
        """
        return (record for _, record in self.pairs())

    def pairs(self) -> Iterator[tuple[RawRow, Record]]:
        """The good rows, each as it stands in the file and as a record; raises as `records` does."""
        prefix = stem(self.path)
        for raw in read_rows(self.path) if self._raw is None else self._raw:
            self.rows += 1
            try:
                if raw.problem is not None:
                    raise raw.problem
                record = self._record(raw.value)
            except _WrongFile as error:
                raise DataError(error.message, self.path, raw.line) from None
            except DataError as error:
                self.on_problem(DataError(error.message, self.path, error.line or raw.line, error.field), raw)
                continue
            name = record.id or f"{prefix}-{self.rows}"
            placed = _placed(record, name, self.path, raw.line)
            if self.wanted.kind == "unpaired" and isinstance(placed, PreferencePair):
                yield from ((raw, answer) for answer in taken_apart(placed))
            else:
                yield raw, placed

    def _record(self, value: Any) -> Record:
        if isinstance(value, str) and self.wanted.purpose == "prompts":
            value = {"prompt": value}
        if not isinstance(value, dict):
            raise DataError(f"a row must be an object, found {describe(value)}")
        format_ = self._format_of(value)
        record = format_.parse(value)
        if self.wanted.purpose == "prompts":
            return as_prompt(record, value, format_)
        if self.wanted.purpose == "answers":
            check_for_judging(record, format_)
            return record
        check_for_training(record, value, format_)
        return record

    def _format_of(self, row: Row) -> Format:
        if self.format is not None and (self.wanted.format or self.format.matches(row)):
            return self.format
        found = detect(row)
        if self.format is None:
            self._check_kind(found)
            self.format = found
            return found
        theirs, ours = short_name(found), short_name(self.format)
        if found.KIND != self.format.KIND:
            raise _WrongFile(
                f"rows of different kinds are mixed: this row is {theirs} ({found.KIND}), the rows "
                f"before it are {ours} ({self.format.KIND}); put them in two files"
            )
        raise DataError(f"this row is {theirs}, the rows before it are {ours}; put them in two files")

    def _check_kind(self, format_: Format) -> None:
        wanted = self.wanted
        fits = (wanted.kind, "preference") if wanted.kind == "unpaired" else (wanted.kind,)
        if wanted.purpose == "train" and wanted.kind is not None and format_.KIND not in fits:
            raise _WrongFile(
                f"{wanted.kind} rows are expected; {short_name(format_)} holds {format_.KIND} rows", self.path
            )


def _placed(record: Record, name: str, source: str, line: int) -> Record:
    if type(record) is Conversation:  # nearly all rows; `replace` takes as long as the rest of the reading
        return Conversation(name, record.messages, source, line, record.tools, record.extra)
    return dataclasses.replace(record, id=name, source=source, line=line)


class _WrongFile(DataError):
    """A problem of the whole file, which leaving out rows does not mend."""


def detect(row: Row) -> Format:
    """The one format whose keys `row` has.

    Raises:
        DataError: none has, or several have.
    """
    found = [format_ for format_ in map(get_format, format_names()) if format_.matches(row)]
    if len(found) == 1:
        return found[0]
    keys = ", ".join(map(str, row)) or "(none)"
    if not found:
        raise DataError(
            f"no format has the keys {keys}; the formats are {', '.join(format_names())} (--format names one)"
        )
    several = " and ".join(map(short_name, found))
    raise DataError(f"the keys {keys} fit {several}; name one with --format")
