"""How a merge shows that it moves."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from autoalign.progress import ProgressBar


class MergeProgress(AbstractContextManager["MergeProgress"]):
    """Bytes written of `total`, rate, time left."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._since = time.monotonic()
        self._bar = ProgressBar("merge", in_bytes=True)

    def __enter__(self) -> Self:
        self._bar.start(self._total, "merging")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, count: int) -> None:
        """So many more bytes are written."""
        self._done += count
        self._bar.update(self._done, self._line)

    def _line(self) -> str:
        rate = self._done / max(time.monotonic() - self._since, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        return (
            f"{self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s, {left:.0f} s left"
        )


def say(text: str) -> None:
    """A plain line on stderr."""
    ProgressBar("merge").say(text)
