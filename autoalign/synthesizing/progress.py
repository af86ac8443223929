"""How a synthesis job shows that it moves: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

_TERMINAL_EVERY, _LINE_EVERY = 0.5, 10.0  # seconds


class SynthesisProgress:
    """Rows kept and dropped, texts and output tokens a second; on stderr."""

    def __init__(self, wanted: int | None) -> None:
        self._wanted = f"/{wanted}" if wanted else ""
        self._kept = self._dropped = self._texts = self._tokens = 0
        self._since = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()

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

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._terminal:
            print(file=sys.stderr)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last < (_TERMINAL_EVERY if self._terminal else _LINE_EVERY):
            return
        self._last = now
        # At least one, so that no rate is told of a moment.
        seconds = max(now - self._since, 1.0)
        line = (
            f"synthesize: {self._kept}{self._wanted} rows kept, {self._dropped} dropped; "
            f"{self._texts} texts, {self._texts / seconds:.2f} texts/s, "
            f"{self._tokens / seconds:.0f} output tok/s"
        )
        end = "" if self._terminal else "\n"
        print(f"\r\x1b[2K{line}" if self._terminal else line, file=sys.stderr, end=end, flush=True)
