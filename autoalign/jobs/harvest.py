"""What a job's folder has to tell: its log's tail, its figures, its artefacts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign.jobs.database import new_id
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.job_store import JobStore
from autoalign.jobs.tables import ArtefactRow, JobRow

METRICS_NAME = "metrics.jsonl"
_WAITS = "waits for resources"
_MOST_BYTES = 16 << 20  # of figures taken in one round
_MOST_ARTEFACTS = 500


@dataclass(frozen=True)
class _Read:
    """How far a metrics.jsonl has been read: bytes and lines of that very file."""

    inode: int
    offset: int
    lines: int


class Harvester:
    """Takes over what is new in the folders of running jobs.

    It remembers how far it has read each, and forgets it without harm.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._read: dict[str, _Read] = {}

    def take(self, job: JobRow, folder: JobFolder) -> None:
        """Log tail, message, figures and artefacts of one job."""
        tail = folder.log_tail()
        waiting = _what_is_missing(tail)
        if tail != job.log_tail or (job.message.startswith(_WAITS) and not waiting):
            message = waiting or ("" if job.message.startswith(_WAITS) else job.message)
            self._store.note(job, log_tail=tail, message=message)
            job.log_tail, job.message = tail, message
        self._take_metrics(job, folder.out / METRICS_NAME)
        self._take_artefacts(job, folder.out)

    def forget(self, job: JobRow) -> None:
        """The job has ended."""
        self._read.pop(job.id, None)

    def _take_metrics(self, job: JobRow, path: Path) -> None:
        before = self._read.get(job.id, _Read(0, 0, 0))
        found = _new_rows(path, before)
        if found is None:
            return
        rows, after = found
        first = after.lines - len(rows)
        self._read[job.id] = after
        # From its start: a first look, or a file that a resumed job has cut off and written anew.
        if first == 0 and len(rows) == self._store.metric_count(job.id):
            return
        self._store.put_metrics(job.id, first, rows)
        if rows and rows[-1].get("step") is not None:
            self._say(job, rows[-1])

    def _say(self, job: JobRow, row: dict[str, Any]) -> None:
        loss = row.get("loss")
        text = f"Step {row['step']}" + (f": training loss={loss:.4f}" if isinstance(loss, float) else "")
        self._store.add_event(job.id, text, data=row)

    def _take_artefacts(self, job: JobRow, out: Path) -> None:
        found = list(_artefacts(job.id, out))
        known = {(row.name, row.bytes) for row in self._store.artefacts(job.id)}
        if known != {(row.name, row.bytes) for row in found}:
            self._store.put_artefacts(job.id, found)


def _new_rows(path: Path, before: _Read) -> tuple[list[dict[str, Any]], _Read] | None:
    """Rows behind what was read, and how far that is; None where there is nothing new.

    A last line that is being written is left for the next time.
    """
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            same = state.st_ino == before.inode and state.st_size >= before.offset
            if same and state.st_size == before.offset:
                return None
            start = before if same else _Read(state.st_ino, 0, 0)
            file.seek(start.offset)
            data = file.read(_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    whole = data[: data.rfind(b"\n") + 1]
    rows = [_row(line) for line in whole.splitlines()]
    return rows, _Read(start.inode, start.offset + len(whole), start.lines + len(rows))


def _row(line: bytes) -> dict[str, Any]:
    """A line's figures; those that are no numbers (NaN) are none in a database either."""
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _what_is_missing(tail: str) -> str:
    """The last line, where the job waits for a cluster's resources: it names those that are missing."""
    lines = [line for line in tail.splitlines() if line.strip()]
    found = lines[-1].find(_WAITS) if lines else -1
    return lines[-1][found:] if found >= 0 else ""


def _artefacts(job_id: str, out: Path) -> Iterator[ArtefactRow]:
    """Checkpoint folders and files; links are left out."""
    if not out.is_dir():
        return
    count = 0
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_symlink() or any(part.startswith((".", "checkpoint-")) for part in Path(name).parts[:-1]):
            continue
        step = _step(path.name) if path.is_dir() else None
        if path.name.startswith(".") or (path.is_dir() and step is None) or len(name) > 400:
            continue
        count += 1
        if count > _MOST_ARTEFACTS:
            return
        yield ArtefactRow(
            id=new_id("ftckpt-" if step is not None else "artefact-"),
            job_id=job_id,
            name=name,
            kind="checkpoint" if step is not None else "file",
            step=step,
            bytes=0 if step is not None else path.stat().st_size,
            created_at=time.time(),
        )


def _step(name: str) -> int | None:
    number = name.removeprefix("checkpoint-")
    return int(number) if number != name and number.isdecimal() else None
