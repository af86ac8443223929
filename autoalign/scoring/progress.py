"""How a scoring job shows that it moves: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

_LINE_EVERY = 10.0  # seconds between plain lines


class ScoreProgress(AbstractContextManager["ScoreProgress"]):
    """Answers scored, answers a second, time left; on stderr."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began = self._last_line = time.monotonic()
        self._bar = _bar() if sys.stderr.isatty() else None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("scoring", total=self._total, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, answers: int) -> None:
        """So many more answers have their reward."""
        self._done += answers
        now = time.monotonic()
        rate = self._done / max(now - self._began, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, advance=answers, rate=f"{rate:.1f} answers/s")
        elif now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            left = time.strftime("%H:%M:%S", time.gmtime((self._total - self._done) / rate))
            line = f"score: {self._done} of {self._total} answers  {rate:.1f} answers/s  {left} left"
            print(line, file=sys.stderr, flush=True)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
