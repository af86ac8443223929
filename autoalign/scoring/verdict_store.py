"""Verdicts on disk as they come: a run that is done again asks the judge only for what is not there."""

from __future__ import annotations

from typing import Any

from autoalign.keyed_lines import KeyedLines


class VerdictStore(KeyedLines):
    """A judge's texts and what they were about."""

    def get(self, key: str) -> str | None:
        """The judge's text under `key` (hex digits); None where there is none."""
        row = self.row(key)
        return None if row is None else str(row["text"])

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Keep a verdict (`row` holds its `text`)."""
        self.append(key, row)
