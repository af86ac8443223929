"""How far a batch is, in a file that the platform reads while it runs."""

from __future__ import annotations

import time
from pathlib import Path

from autoalign.manifest import write_json
from autoalign.sampling.progress import Settled

COUNTS_NAME = "counts.json"
_EVERY = 1.0


class Counts:
    """Requests answered and failed, over one settings after the other.

    Args:
        folder: where `counts.json` goes.
        total: the batch's requests.
        refused: those that can't be asked.
    """

    def __init__(self, folder: Path, total: int, refused: int) -> None:
        self._path, self._total = folder / COUNTS_NAME, total
        self._before, self._now = Settled(0, refused), Settled()
        self._written = -_EVERY

    def show(self, now: Settled) -> None:
        """Of the settings at work. The file is written once a second at most."""
        self._now = now
        if time.monotonic() - self._written >= _EVERY:
            self._write()

    def keep(self) -> None:
        """The settings at work are done."""
        self._before = Settled(
            self._before.answered + self._now.answered, self._before.failed + self._now.failed
        )
        self._now = Settled()
        self._write()

    def _write(self) -> None:
        completed = self._before.answered + self._now.answered
        failed = self._before.failed + self._now.failed
        write_json(self._path, {"total": self._total, "completed": completed, "failed": failed})
        self._written = time.monotonic()
