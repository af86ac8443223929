"""How a sampling job shows that it moves."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from autoalign.progress import ProgressBar


class SampleProgress(AbstractContextManager["SampleProgress"]):
    """Answers done, answers a second, output tokens a second, errors, time left; on stderr."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._errors = self._tokens = 0
        self._since: float | None = None
        self._bar = ProgressBar("infer")

    def __enter__(self) -> Self:
        if not self._bar.on_terminal:
            self._bar.say("starting the engine")
        self._bar.start(self._total, "starting the engine")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if not self._bar.on_terminal and kind is None and self._since is not None:
            self._bar.say(self._line())

    def engine_ready(self, when: float) -> None:
        """Rates count from here (`time.time()`)."""
        if self._since is None or when < self._since:
            self._since = when

    def advance(self, answers: int, errors: int, tokens: int) -> None:
        """So many more answers, failed ones and output tokens."""
        self._done, self._errors, self._tokens = (
            self._done + answers,
            self._errors + errors,
            self._tokens + tokens,
        )
        settled = self._done + self._errors
        self._bar.update(settled, self._line, figures=self._figures(), description="answers")

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
