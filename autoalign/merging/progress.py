"""How a merge shows that it moves: a bar on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

_LINE_EVERY = 10.0  # seconds between plain lines


class MergeProgress(AbstractContextManager["MergeProgress"]):
    """Bytes written of `total`, rate, time left."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._since = self._last = time.monotonic()
        self._bar = _bar() if sys.stderr.isatty() else None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("merging", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """So many more bytes are written."""
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif time.monotonic() - self._last >= _LINE_EVERY:
            self._last = time.monotonic()
            say(self._line())

    def _line(self) -> str:
        rate = self._done / max(time.monotonic() - self._since, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        return (
            f"{self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s, {left:.0f} s left"
        )


def say(text: str) -> None:
    """A plain line on stderr."""
    print(f"merge: {text}", file=sys.stderr, flush=True)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
