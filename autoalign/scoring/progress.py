"""How a scoring job shows that it moves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from autoalign.progress import ProgressBar

_CHUNK = 1 << 20


class ScoreProgress(AbstractContextManager["ScoreProgress"]):
    """Rows scored, rows a second, and time left where the files are JSONL; on stderr."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._total, self._done = count_lines(paths), 0
        self._began = time.monotonic()
        self._bar = ProgressBar("score")

    def __enter__(self) -> Self:
        self._bar.start(self._total, "scoring")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, rows: int) -> None:
        """So many more rows have their scores."""
        self._done += rows
        self._bar.update(self._done, self._line, figures=f"{self._rate():.1f} rows/s")

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._began, 1e-9)

    def _line(self) -> str:
        if self._total is None:
            return f"{self._done} rows  {self._rate():.1f} rows/s"
        left = max(self._total - self._done, 0) / max(self._rate(), 1e-9)
        clock = time.strftime("%H:%M:%S", time.gmtime(left))
        return f"{self._done} of {self._total} rows  {self._rate():.1f} rows/s  {clock} left"


def count_lines(paths: Sequence[str]) -> int | None:
    """The rows of local JSONL files; None where that takes more than a look through the bytes."""
    files = [Path(path).expanduser() for path in paths]
    if not all(file.suffix in (".jsonl", ".ndjson") and file.is_file() for file in files):
        return None
    total = 0
    for file in files:
        with file.open("rb") as handle:
            while chunk := handle.read(_CHUNK):
                total += chunk.count(b"\n")
    return total
