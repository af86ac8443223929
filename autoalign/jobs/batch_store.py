"""OpenAI's batches in the database."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select, update

from autoalign.batching.results import BatchFiles, Unanswered, gather
from autoalign.jobs.database import Database
from autoalign.jobs.file_store import FileStore
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.pages import Cursor, Page, page
from autoalign.jobs.states import State
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

    def settle(self, job: JobRow, folder: JobFolder, state: State) -> None:
        """Make the files that a batch's job has written its owner's, once.

        Args:
            state: the job's last. Unless it has succeeded, what was answered until then goes into the output
                file, and the other requests into the error file.
        """
        with self._database.read() as session:
            batch = session.scalar(select(BatchRow).where(BatchRow.job_id == job.id))
        if batch is None or batch.finished_at is not None:
            return
        files = _files(folder)
        # The job's own files tell of its end alone; these hold at any time, however it was ended.
        if state != "succeeded" and files.settings.is_dir() and files.requests.is_file():
            gather(files, _unanswered(state))
        values: dict[str, Any] = {"finished_at": time.time(), **_counts(folder)}
        for column, path in (("output_file_id", files.output), ("error_file_id", files.errors)):
            if path.is_file() and path.stat().st_size:
                row = self._files.adopt(path, batch.owner, f"{batch.id}_{path.name}", "batch_output")
                values[column] = row.id
        self.set(batch.id, **values)


def _files(folder: JobFolder) -> BatchFiles:
    """As the job's config names them."""
    config = yaml.safe_load(folder.config.read_bytes())
    return BatchFiles(*(Path(config[key]) for key in ("input_file", "output_file", "error_file")))


def _unanswered(state: State) -> Unanswered:
    if state == "cancelled":
        return Unanswered("batch_cancelled", "the batch was cancelled before this request was answered")
    return Unanswered("batch_failed", "the batch failed before this request was answered")


def _counts(folder: JobFolder) -> dict[str, int]:
    """The columns that `counts.json` fills; none where it is not there yet."""
    try:
        counts = json.loads((folder.out / _COUNTS).read_bytes())
        return {"completed": int(counts["completed"]), "failed": int(counts["failed"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
