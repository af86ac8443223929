"""Rows kept on disk under a key as they come, so that a run done again makes only what is not there."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from autoalign.errors import ConfigError


class KeyedLines:
    """A JSONL file that only grows; memory holds a key and a place for each row.

    Args:
        path: the file; a torn last line, left by a killed run, is cut off.
        fresh: forget what is there.

    Raises:
        ConfigError: another process has it open.
    """

    def __init__(self, path: Path, fresh: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(f"{path}: another job is at work on this output") from None
        if fresh:
            self._file.truncate(0)
        self._places: dict[bytes, int] = {}
        self._end = self._read_places()
        self._file.truncate(self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def row(self, key: str) -> dict[str, Any] | None:
        """The row under `key` (hex digits); None where there is none."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        self._file.seek(place)
        row: dict[str, Any] = json.loads(self._file.readline())
        return row

    def append(self, key: str, row: Mapping[str, Any]) -> None:
        """Keep a row; it is in the operating system's hands at once, and outlives a killed run."""
        line = json.dumps({"key": key, **row}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._file.write(line)
        self._file.flush()
        self._places[bytes.fromhex(key)] = self._end
        self._end += len(line)

    def _read_places(self) -> int:
        """Where the last whole line ends."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            try:
                row = json.loads(line)
                self._places[bytes.fromhex(row["key"])] = end
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
        return end
