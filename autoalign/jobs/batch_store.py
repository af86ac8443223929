"""OpenAI's batches in the database."""

from __future__ import annotations

import json
import time
from typing import Any

from sqlalchemy import select, update

from autoalign.jobs.database import Database
from autoalign.jobs.file_store import FileStore
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.pages import Cursor, Page, page
from autoalign.jobs.tables import BatchRow, JobRow
from autoalign.principals import Principal

_COUNTS = "counts.json"


class BatchStore:
    """Batch rows, and the files that their jobs leave."""

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database, self._files = database, files

    def add(self, batch: BatchRow) -> BatchRow:
        """Keep a new batch."""
        with self._database.write() as session:
            session.add(batch)
        return batch

    def get(self, batch_id: str, principal: Principal) -> BatchRow | None:
        """A batch; None where there is none that `principal` may see."""
        with self._database.read() as session:
            row = session.scalar(select(BatchRow).where(BatchRow.id == batch_id))
        seen = row is not None and (principal.may("admin") or row.owner == principal.token_id)
        return row if seen else None

    def page(self, principal: Principal, cursor: Cursor) -> Page[BatchRow]:
        """The newest batches that `principal` may see."""
        query = select(BatchRow)
        if not principal.may("admin"):
            query = query.where(BatchRow.owner == principal.token_id)
        with self._database.read() as session:
            return page(session, query, BatchRow, cursor)

    def set(self, batch_id: str, **values: Any) -> None:
        """Set columns."""
        with self._database.write() as session:
            session.execute(update(BatchRow).where(BatchRow.id == batch_id).values(**values))

    def follow(self, job: JobRow, folder: JobFolder) -> None:
        """Take over how far a running batch is."""
        with self._database.read() as session:
            batch = session.scalar(select(BatchRow).where(BatchRow.job_id == job.id))
        counts = _counts(folder)
        if batch is not None and counts not in ({}, {"completed": batch.completed, "failed": batch.failed}):
            self.set(batch.id, **counts)

    def settle(self, job: JobRow, folder: JobFolder) -> None:
        """Make the files that a batch's job has written its owner's, once."""
        with self._database.read() as session:
            batch = session.scalar(select(BatchRow).where(BatchRow.job_id == job.id))
        if batch is None or batch.finished_at is not None:
            return
        values: dict[str, Any] = {"finished_at": time.time(), **_counts(folder)}
        for column, name in (("output_file_id", "answers.jsonl"), ("error_file_id", "errors.jsonl")):
            path = folder.out / name
            if path.is_file() and path.stat().st_size:
                row = self._files.adopt(path, batch.owner, f"{batch.id}_{name}", "batch_output")
                values[column] = row.id
        self.set(batch.id, **values)


def _counts(folder: JobFolder) -> dict[str, int]:
    """The columns that `counts.json` fills; none where it is not there yet."""
    try:
        counts = json.loads((folder.out / _COUNTS).read_bytes())
        return {"completed": int(counts["completed"]), "failed": int(counts["failed"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
