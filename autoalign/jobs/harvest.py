"""What a job's folder has to tell: its log's tail, its figures, its artefacts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from autoalign.jobs.database import new_id
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.job_store import JobStore
from autoalign.jobs.tables import ArtefactRow, JobRow

METRICS_NAME = "metrics.jsonl"
_WAITS = "waits for resources"
_MOST_LINES = 10_000  # figures taken in one round
_MOST_ARTEFACTS = 500


def harvest(store: JobStore, job: JobRow, folder: JobFolder) -> None:
    """Take over what is new."""
    tail = folder.log_tail()
    waiting = _what_is_missing(tail)
    if tail != job.log_tail or (job.message.startswith(_WAITS) and not waiting):
        message = waiting or ("" if job.message.startswith(_WAITS) else job.message)
        store.note(job, log_tail=tail, message=message)
        job.log_tail, job.message = tail, message
    _take_metrics(store, job, folder.out)
    store.put_artefacts(job.id, list(_artefacts(job.id, folder.out)))


def _what_is_missing(tail: str) -> str:
    """The last line, where the job waits for a cluster's resources: it names those that are missing."""
    lines = [line for line in tail.splitlines() if line.strip()]
    found = lines[-1].find(_WAITS) if lines else -1
    return lines[-1][found:] if found >= 0 else ""


def _take_metrics(store: JobStore, job: JobRow, out: Path) -> None:
    rows = _read_metrics(out / METRICS_NAME)
    known = store.metrics(job.id, limit=1_000_000) if rows else []
    same = 0
    while same < min(len(rows), len(known)) and known[same].figures == rows[same]:
        same += 1
    fresh = rows[same : same + _MOST_LINES]
    if not fresh and same == len(known):
        return
    store.put_metrics(job.id, same, fresh)
    if fresh and fresh[-1].get("step") is not None:
        step = fresh[-1]["step"]
        loss = fresh[-1].get("loss")
        text = f"Step {step}" + (f": training loss={loss:.4f}" if isinstance(loss, float) else "")
        store.add_event(job.id, text, data=fresh[-1])


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows so far; a last line that is being written is left for the next time."""
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return rows
    for line in lines:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            break
        if isinstance(row, dict):
            rows.append(row)
    return rows


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
