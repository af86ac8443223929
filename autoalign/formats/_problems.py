"""What happens to bad rows: collected to stop the job with, or written to `errors.jsonl`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import orjson

from autoalign.errors import ConfigError, DataError, nearest
from autoalign.formats._types import RawRow

OnBadRow = Literal["stop", "quarantine"]
SHOWN = 20
DEFAULT_PATH = "errors.jsonl"


class Problems:
    """Counts bad rows; keeps the first 20, and in quarantine writes each to a file.

    Args:
        on_bad_row: "stop" or "quarantine".
        errors_path: where quarantined rows are appended (default `errors.jsonl`).

    Raises:
        ConfigError: another `on_bad_row`.
    """

    def __init__(self, on_bad_row: str, errors_path: str | Path | None = None) -> None:
        choices = ("stop", "quarantine")
        if on_bad_row not in choices:
            raise ConfigError(
                f"on_bad_row is 'stop' or 'quarantine', not '{on_bad_row}'{nearest(on_bad_row, choices)}"
            )
        self.quarantine = on_bad_row == "quarantine"
        self.path = Path(errors_path or DEFAULT_PATH)
        self.count = 0
        self.first: list[DataError] = []
        self._handle: BinaryIO | None = None

    def add(self, problem: DataError, raw: RawRow) -> None:
        """Take note of one bad row."""
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(problem)
        if self.quarantine:
            self._write(problem, raw)

    def stop(self, problem: DataError, raw: RawRow) -> None:
        """Raise `problem`, unless bad rows go to quarantine: for streams, which cannot look ahead."""
        if not self.quarantine:
            raise problem
        self.add(problem, raw)

    def _write(self, problem: DataError, raw: RawRow) -> None:
        entry = {
            "file": problem.file,
            "line": problem.line,
            "field": problem.field,
            "error": problem.message,
            "row": raw.value,
        }
        try:
            if self._handle is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = self.path.open("ab")
            self._handle.write(to_json(entry) + b"\n")
        except OSError as error:
            raise DataError(
                f"bad rows cannot be written: {error.strerror or error}", file=str(self.path)
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def check(self, rows: int, nothing_left: bool) -> None:
        """Raise one error for all bad rows, unless they are in quarantine and others are left."""
        if self.count and (nothing_left or not self.quarantine):
            raise self._error(rows)

    def _error(self, rows: int) -> DataError:
        if self.count == 1:
            only = self.first[0]
            return DataError(only.message, only.file, only.line, only.field)
        lines = [f"{self.count} of {rows} rows are bad; nothing was done"]
        lines += [f"  {problem}" for problem in self.first]
        if self.count > SHOWN:
            lines.append(f"  ... and {self.count - SHOWN} more")
        lines.append("mend them, or leave them out with --on-bad-row quarantine")
        return DataError("\n".join(lines))


def to_json(value: Any) -> bytes:
    """One line of JSON; values that JSON has no word for (dates, bytes of Parquet) as text."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
