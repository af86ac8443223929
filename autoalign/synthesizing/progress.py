"""What a synthesis job shows of itself on stderr."""

from __future__ import annotations

import time

from autoalign.progress import ProgressBar


class SynthesisProgress:
    """Rows kept and dropped, texts and output tokens a second.

    Args:
        wanted: rows that are asked for; None: as many as there will be.
    """

    def __init__(self, wanted: int | None) -> None:
        self._bar = ProgressBar("synthesize")
        self._bar.start(wanted)
        self._wanted = f"/{wanted}" if wanted else ""
        self._kept = self._dropped = self._texts = self._tokens = 0
        self._since = time.monotonic()

    def note(self, text: str) -> None:
        """Print one line."""
        self._bar.say(text)

    def text(self, tokens: int) -> None:
        """One more text of so many tokens."""
        if not self._texts:
            self._since = time.monotonic()
        self._texts += 1
        self._tokens += tokens
        self._show()

    def rows(self, kept: int, dropped: int) -> None:
        """So many rows there are by now."""
        self._kept, self._dropped = kept, dropped
        self._show()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()

    def _show(self) -> None:
        # At least one, so that no rate is told of a moment.
        seconds = max(time.monotonic() - self._since, 1.0)
        figures = (
            f"{self._dropped} dropped; {self._texts} texts, {self._texts / seconds:.2f} texts/s, "
            f"{self._tokens / seconds:.0f} output tok/s"
        )
        self._bar.update(
            self._kept, lambda: f"{self._kept}{self._wanted} rows kept, {figures}", figures=figures
        )
