"""Texts that were generated, kept on disk under a hash of what they answer.

A run that is done again asks only for what is not there: it takes the same way through its method,
because what a method asks follows from the seeds and the answers alone.
"""

from __future__ import annotations

from autoalign.keyed_lines import KeyedLines
from autoalign.synthesis import Reply


class TextStore(KeyedLines):
    """An engine's replies."""

    def get(self, key: str) -> Reply | None:
        """The text under `key` (32 hex digits), None where there is none."""
        row = self.row(key)
        return None if row is None else Reply(row["text"], row["finish_reason"])

    def add(self, key: str, reply: Reply) -> None:
        """Keep a text."""
        self.append(key, {"text": reply.text, "finish_reason": reply.finish_reason})
