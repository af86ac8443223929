"""Rows on disk: kept ones in one file, dropped ones with their reasons in another."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from autoalign.records import messages_to_dicts
from autoalign.synthesis import Row


def beside(output: Path, what: str) -> Path:
    """`NAME.what.jsonl` for `NAME.jsonl`."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.{what}.jsonl")


class RowFiles:
    """Written under temporary names; `finish` gives them their own, and nothing is left without it.

    Attributes:
        kept: rows in the output.
        reasons: how many rows were dropped for each reason.
    """

    def __init__(self, output: Path, method: str, model: str) -> None:
        self.output, self.dropped = output, beside(output, "dropped")
        self.kept = 0
        self.reasons: Counter[str] = Counter()
        self._made_by = {"method": method, "model": model}
        self._partial = [p.with_name(f".{p.name}.{os.getpid()}.tmp") for p in (self.output, self.dropped)]
        self._files: list[IO[bytes]] = []

    @property
    def made(self) -> int:
        """Rows kept and dropped."""
        return self.kept + self.reasons.total()

    def __enter__(self) -> Self:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self._files = [path.open("wb") for path in self._partial]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file, path in zip(self._files, self._partial, strict=True):
            file.close()
            path.unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Write the row where it belongs."""
        fields: dict[str, Any] = {"id": row.id, "messages": messages_to_dicts(row.messages)}
        made_by = {**self._made_by, **row.facts}
        if row.reason is None:
            self.kept += 1
            self._write(0, {**fields, "source": self._made_by["method"], "synthesis": made_by})
        else:
            self.reasons[row.reason] += 1
            self._write(1, {**fields, "reason": row.reason, "synthesis": made_by})

    def finish(self) -> None:
        """Both files under their names; the dropped rows first, so that the output is there last."""
        for file, path, final in zip(
            self._files[::-1], self._partial[::-1], (self.dropped, self.output), strict=True
        ):
            file.flush()
            os.fsync(file.fileno())
            path.replace(final)

    def _write(self, which: int, row: dict[str, Any]) -> None:
        self._files[which].write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
