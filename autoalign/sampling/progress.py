"""How a sampling job shows that it moves: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

_LINE_EVERY = 10.0  # seconds between plain lines


class SampleProgress(AbstractContextManager["SampleProgress"]):
    """Answers done, answers a second, output tokens a second, errors, time left; on stderr."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._errors = self._tokens = 0
        self._since: float | None = None
        self._last_line = 0.0
        self._bar = _bar() if sys.stderr.isatty() else None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting the engine", total=self._total, figures="")
        else:
            self._say("starting the engine")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self._since is not None:
            self._say(self._line())

    def engine_ready(self, when: float) -> None:
        """Rates count from here (`time.time()`)."""
        if self._since is None or when < self._since:
            self._since = when
            self._last_line = self._last_line or time.time()

    def advance(self, answers: int, errors: int, tokens: int) -> None:
        """So many more answers, failed ones and output tokens."""
        self._done, self._errors, self._tokens = (
            self._done + answers,
            self._errors + errors,
            self._tokens + tokens,
        )
        if self._bar is not None:
            self._bar.update(
                self._task,
                description="answers",
                completed=self._done + self._errors,
                figures=self._figures(),
            )
        elif time.time() - self._last_line >= _LINE_EVERY:
            self._last_line = time.time()
            self._say(self._line())

    def _line(self) -> str:
        settled = self._done + self._errors
        rate = settled / self._seconds()
        left = f", {(self._total - settled) / rate:.0f} s left" if rate and settled < self._total else ""
        return f"{settled}/{self._total} answers, {self._figures()}{left}"

    def _figures(self) -> str:
        seconds = self._seconds()
        rows, tokens = (self._done + self._errors) / seconds, self._tokens / seconds
        return f"{rows:.2f} rows/s, {tokens:.0f} output tok/s, {self._errors} errors"

    def _seconds(self) -> float:
        return max(time.time() - (self._since or time.time()), 1e-3)

    @staticmethod
    def _say(text: str) -> None:
        print(f"infer: {text}", file=sys.stderr, flush=True)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
