"""Texts that were generated, kept on disk under a hash of what they answer.

A run that is done again asks only for what is not there: it takes the same way through its method,
because what a method asks follows from the seeds and the answers alone.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from types import TracebackType
from typing import Self

from autoalign.errors import ConfigError
from autoalign.synthesis import Reply


class TextStore:
    """A JSONL file that only grows; memory holds a key and a place for each text.

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
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Reply | None:
        """The text under `key` (32 hex digits), None where there is none."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        self._file.seek(place)
        row = json.loads(self._file.readline())
        return Reply(row["text"], row["finish_reason"])

    def add(self, key: str, reply: Reply) -> None:
        """Keep a text; it is in the operating system's hands at once, and outlives a killed run."""
        row = {"key": key, "text": reply.text, "finish_reason": reply.finish_reason}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
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
