"""How a job shows on stderr that it moves: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

LINE_EVERY = 10.0  # seconds between plain lines


class ProgressBar:
    """One job's bar, or the lines in its place.

    Args:
        name: stands before every plain line.
        in_bytes: what is counted are bytes: sizes and a rate are shown instead of a count.
        quiet: plain lines are left out.
    """

    def __init__(self, name: str, *, in_bytes: bool = False, quiet: bool = False) -> None:
        self._name, self._in_bytes, self._quiet = name, in_bytes, quiet
        self._bar: Any = None
        self._task: Any = None
        self._last_line = time.monotonic()

    @property
    def on_terminal(self) -> bool:
        """Whether there is a terminal to draw a bar on."""
        return sys.stderr.isatty()

    def start(self, total: int | None, description: str = "") -> None:
        """Draw an empty bar, where there is a terminal.

        Args:
            total: None where it is not known; the bar then only moves.
            description: in place of the name.
        """
        if not self.on_terminal:
            return
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(*_columns(self._in_bytes), console=Console(stderr=True))
        self._bar.start()
        self._task = self._bar.add_task(description or self._name, total=total, figures="")

    def update(
        self,
        done: int,
        line: Callable[[], str],
        *,
        figures: str = "",
        description: str = "",
        now: bool = False,
    ) -> None:
        """Move the bar, or print `line` when one is due.

        Args:
            line: makes the plain line.
            figures: beside the bar's count.
            description: in place of the one before.
            now: a plain line is due in any case.
        """
        if self._bar is not None:
            named = {"description": description} if description else {}
            self._bar.update(self._task, completed=done, figures=figures, **named)
        elif now or self.is_line_due():
            self._last_line = time.monotonic()
            self.say(line())

    def is_line_due(self) -> bool:
        """Whether the last plain line is long enough ago."""
        return time.monotonic() - self._last_line >= LINE_EVERY

    def say(self, text: str) -> None:
        """Print one line, above the bar where there is one."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(f"{self._name}: {text}", highlight=False)
        else:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


def _columns(in_bytes: bool) -> list[ProgressColumn]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts: list[ProgressColumn] = [MofNCompleteColumn(), TextColumn("{task.fields[figures]}")]
    sizes: list[ProgressColumn] = [DownloadColumn(), TransferSpeedColumn()]
    return [
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        *(sizes if in_bytes else counts),
        TimeRemainingColumn(),
    ]
