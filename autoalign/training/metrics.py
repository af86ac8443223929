"""`metrics.jsonl`; what a resumed run repeats is cut off first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoalign.atomic_files import write_text
from autoalign.training import pictures

METRICS_NAME = "metrics.jsonl"


class MetricsWriter:
    """Writes one line a logged step; used on rank 0 alone.

    Args:
        from_step: steps already done; later lines of an earlier attempt are dropped.
        title: of the pictures.
    """

    def __init__(self, output_dir: Path, from_step: int, title: str) -> None:
        self._title = title
        self._path = output_dir / METRICS_NAME
        _truncate(self._path, from_step)
        self._file = self._path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row, at once on disk."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file and draw the pictures."""
        self._file.close()
        pictures.draw(read_metrics(self._path), self._path.parent, self._title)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a torn last line is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _truncate(path: Path, from_step: int) -> None:
    rows = [row for row in read_metrics(path) if row["step"] <= from_step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
