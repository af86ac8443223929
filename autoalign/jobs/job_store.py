"""Jobs in the database. A state changes by compare-and-set, so of several replicas one alone changes it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from autoalign.jobs.database import Database, new_id
from autoalign.jobs.pages import Cursor, Page, page
from autoalign.jobs.settings import Limits
from autoalign.jobs.states import NEXT, State
from autoalign.jobs.tables import ArtefactRow, EventRow, JobRow, MetricRow
from autoalign.principals import Principal

_LEASE_SECONDS = 15.0


@dataclass(frozen=True)
class Wanted:
    """Which jobs a list is of; None: whatever there is."""

    api: str | None = None
    kind: str | None = None
    state: str | None = None


class JobStore:
    """Job rows and their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: JobRow, most_queued: int) -> bool:
        """Keep a new job; False where its owner has `most_queued` waiting already."""
        waiting = select(func.count()).where(JobRow.owner == job.owner, JobRow.state == "queued")
        with self._database.turn() as session:
            if (session.scalar(waiting) or 0) >= most_queued:
                return False
            session.add(job)
            session.flush()
            session.add(_event(job.id, "Job created"))
        return True

    def get(self, job_id: str, principal: Principal | None = None) -> JobRow | None:
        """A job; None where there is none, or `principal` may not see it."""
        with self._database.read() as session:
            return session.scalar(_visible(principal).where(JobRow.id == job_id))

    def page(self, principal: Principal, wanted: Wanted, cursor: Cursor) -> Page[JobRow]:
        """The newest jobs that `principal` may see."""
        query = _visible(principal)
        for column, value in (
            (JobRow.api, wanted.api),
            (JobRow.kind, wanted.kind),
            (JobRow.state, wanted.state),
        ):
            if value is not None:
                query = query.where(column == value)
        with self._database.read() as session:
            return page(session, query, JobRow, cursor)

    def in_state(self, state: State) -> list[JobRow]:
        """All jobs in a state, the oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(JobRow).where(JobRow.state == state).order_by(JobRow.number)))

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.read() as session:
            rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            return {row[0]: row[1] for row in rows}

    def move(
        self,
        job: JobRow,
        before: State,
        after: State,
        note: str,
        **values: Any,
    ) -> bool:
        """Change a job's state if it still is `before`, and in the same attempt; False where it is not.

        Args:
            note: the event's message.
            values: further columns.
        """
        if after not in NEXT[before]:
            raise ValueError(f"no job goes from {before} to {after}")
        change = update(JobRow).where(
            JobRow.id == job.id, JobRow.state == before, JobRow.attempt == job.attempt
        )
        with self._database.write() as session:
            if not _changes_one(session, change.values(state=after, **values)):
                return False
            level = {"failed": "error", "lost": "error", "cancelled": "warn"}.get(after, "info")
            session.add(_event(job.id, note, level))
        return True

    def kinds(self, job_ids: Collection[str]) -> dict[str, str]:
        """The kind of each of these jobs."""
        with self._database.read() as session:
            rows = session.execute(select(JobRow.id, JobRow.kind).where(JobRow.id.in_(job_ids)))
            return {row[0]: row[1] for row in rows}

    def claim_next(self, limits: Limits, replica: str) -> JobRow | None:
        """Take the oldest queued job that the limits have room for: it is running from here on, once.

        Args:
            replica: who looks after it for some seconds, and so has the time to start it.
        """
        with self._database.turn() as session:
            counts = (
                select(JobRow.owner, func.count()).where(JobRow.state == "running").group_by(JobRow.owner)
            )
            running = {row[0]: row[1] for row in session.execute(counts)}
            if sum(running.values()) >= limits.jobs:
                return None
            full = [owner for owner, count in running.items() if count >= limits.jobs_per_user]
            queued = select(JobRow).where(JobRow.state == "queued", JobRow.owner.not_in(full))
            # Locked: a user who cancels or pauses it now waits, and then finds it running.
            job = session.scalar(queued.order_by(JobRow.number).limit(1).with_for_update())
            if job is None:
                return None
            now = time.time()
            job.state, job.attempt, job.message = "running", job.attempt + 1, ""
            job.run_id = f"{job.id}-{job.attempt}"
            job.started_at, job.unseen_since = job.started_at or now, None
            job.watched_by, job.watched_until = replica, now + _LEASE_SECONDS
            session.add(_event(job.id, f"Attempt {job.attempt} starts"))
        return job

    def want(self, job: JobRow, intent: str) -> bool:
        """Note what is wanted of a running job; a cancel is not taken back by a pause."""
        change = update(JobRow).where(
            JobRow.id == job.id, JobRow.state == "running", JobRow.intent.in_(["", "pause"])
        )
        with self._database.write() as session:
            return _changes_one(session, change.values(intent=intent))

    def lease(self, job: JobRow, replica: str) -> bool:
        """Look after a running job for some seconds; False while another replica does.

        Saves work alone: what must happen once is held by `move` and `claim_next`.
        """
        now = time.time()
        change = update(JobRow).where(
            JobRow.id == job.id,
            (JobRow.watched_by == replica) | (JobRow.watched_by.is_(None)) | (JobRow.watched_until < now),
        )
        with self._database.write() as session:
            return _changes_one(
                session, change.values(watched_by=replica, watched_until=now + _LEASE_SECONDS)
            )

    def note(self, job: JobRow, **values: Any) -> None:
        """Set columns that do not decide anything: log tail, message."""
        with self._database.write() as session:
            session.execute(update(JobRow).where(JobRow.id == job.id).values(**values))

    def add_event(
        self, job_id: str, message: str, level: str = "info", data: dict[str, Any] | None = None
    ) -> None:
        """Add an event; with `data` it is one of metrics."""
        with self._database.write() as session:
            session.add(_event(job_id, message, level, data))

    def events(self, job_id: str, cursor: Cursor) -> Page[EventRow]:
        """A job's events."""
        with self._database.read() as session:
            return page(session, select(EventRow).where(EventRow.job_id == job_id), EventRow, cursor)

    def metrics(self, job_id: str, after: int = -1, limit: int = 1000) -> list[MetricRow]:
        """Lines of metrics.jsonl behind position `after`, in order."""
        query = select(MetricRow).where(MetricRow.job_id == job_id, MetricRow.position > after)
        with self._database.read() as session:
            return list(session.scalars(query.order_by(MetricRow.position).limit(limit)))

    def metric_count(self, job_id: str) -> int:
        """How many lines of metrics.jsonl are kept."""
        with self._database.read() as session:
            query = select(func.count()).where(MetricRow.job_id == job_id)
            return session.scalar(query) or 0

    def trained_tokens(self, job_id: str) -> int | None:
        """Tokens that its steps went over so far; None before its first figures."""
        query = select(MetricRow.figures).where(MetricRow.job_id == job_id)
        with self._database.read() as session:
            for figures in session.scalars(query.order_by(MetricRow.position.desc()).limit(100)):
                if isinstance(figures.get("tokens"), int):
                    return int(figures["tokens"])
        return None

    def put_metrics(self, job_id: str, first: int, rows: Sequence[dict[str, Any]]) -> None:
        """Put lines from position `first` on; what stood there, and behind, is replaced."""
        with self._database.write() as session:
            session.execute(delete(MetricRow).where(MetricRow.job_id == job_id, MetricRow.position >= first))
            session.add_all(
                MetricRow(job_id=job_id, position=first + index, step=row.get("step"), figures=row)
                for index, row in enumerate(rows)
            )

    def artefacts(self, job_id: str, kind: str | None = None) -> list[ArtefactRow]:
        """What a job has written, in the order it was found."""
        query = select(ArtefactRow).where(ArtefactRow.job_id == job_id)
        if kind is not None:
            query = query.where(ArtefactRow.kind == kind)
        with self._database.read() as session:
            return list(session.scalars(query.order_by(ArtefactRow.number)))

    def checkpoints(self, job_id: str, cursor: Cursor) -> Page[ArtefactRow]:
        """A job's checkpoints that are still there."""
        query = select(ArtefactRow).where(ArtefactRow.job_id == job_id, ArtefactRow.kind == "checkpoint")
        with self._database.read() as session:
            return page(session, query, ArtefactRow, cursor)

    def put_artefacts(self, job_id: str, found: Collection[ArtefactRow]) -> None:
        """Make the kept list equal `found`; what is known already keeps its id."""
        with self._database.write() as session:
            known = {
                row.name: row
                for row in session.scalars(select(ArtefactRow).where(ArtefactRow.job_id == job_id))
            }
            for row in found:
                if row.name in known:
                    known.pop(row.name).bytes = row.bytes
                else:
                    session.add(row)
            for gone in known.values():
                session.delete(gone)


def _visible(principal: Principal | None) -> Select[JobRow]:
    query = select(JobRow)
    if principal is not None and "admin" not in principal.scopes:
        query = query.where(JobRow.owner == principal.token_id)
    return query


def _event(job_id: str, message: str, level: str = "info", data: dict[str, Any] | None = None) -> EventRow:
    return EventRow(
        id=new_id("ftevent-"),
        job_id=job_id,
        created_at=time.time(),
        level=level,
        type="message" if data is None else "metrics",
        message=message,
        data=data,
    )


def _changes_one(session: Session, change: Any) -> bool:
    result: Any = session.execute(change)
    return bool(result.rowcount == 1)
