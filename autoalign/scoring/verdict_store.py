"""Verdicts on disk as they come: a run that is done again asks the judge only for what is not there."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from autoalign.errors import ConfigError


class VerdictStore:
    """A JSONL file that only grows; memory holds a key and a place for each verdict.

    Args:
        path: the file; a torn last line, left by a killed run, is cut off.
        fresh: forget what is there.

    Raises:
        ConfigError: another process has it open.
    """

    def __init__(self, path: Path, fresh: bool = False) -> None:
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
        self._end = self._read()
        self._file.truncate(self._end)

    def get(self, key: str) -> str | None:
        """The judge's text under `key` (hex digits); None where there is none."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        self._file.seek(place)
        return str(json.loads(self._file.readline())["text"])

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Keep a verdict (`row` holds its `text`); it outlives a killed run."""
        line = json.dumps({"key": key, **row}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._file.write(line)
        self._file.flush()
        self._places[bytes.fromhex(key)] = self._end
        self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> int:
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
