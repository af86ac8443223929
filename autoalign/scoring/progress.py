"""How a scoring job shows that it moves."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from autoalign.progress import ProgressBar


class ScoreProgress(AbstractContextManager["ScoreProgress"]):
    """Answers scored, answers a second, time left; on stderr."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began = time.monotonic()
        self._bar = ProgressBar("score")

    def __enter__(self) -> Self:
        self._bar.start(self._total, "scoring")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, answers: int) -> None:
        """So many more answers have their reward."""
        self._done += answers
        self._bar.update(self._done, self._line, figures=f"{self._rate():.1f} answers/s")

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._began, 1e-9)

    def _line(self) -> str:
        rate = self._rate()
        left = time.strftime("%H:%M:%S", time.gmtime((self._total - self._done) / max(rate, 1e-9)))
        return f"{self._done} of {self._total} answers  {rate:.1f} answers/s  {left} left"
