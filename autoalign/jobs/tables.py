"""The database's tables, as typed classes. `migrations/` makes them; a test holds the two equal."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Times are Unix seconds; `number` counts the rows, and orders pages."""

    type_annotation_map = {Json: JSON, list[Any]: JSON}  # noqa: RUF012 - SQLAlchemy's own way


class JobRow(Base):
    """One job.

    Attributes:
        api: the door it came in by: `jobs`, `fine_tuning` or `batch`.
        about: what that door keeps: OpenAI's file ids, hyperparameters, metadata.
        intent: what is wanted of it while it runs: `cancel` or `pause`.
        run_id: the runner's name for this attempt; unique, so it can't be started twice.
        unseen_since: when the runner first failed to know it.
        watched_by: the replica that looks after it until `watched_until`.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_owner_state", "owner", "state"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    api: Mapped[str] = mapped_column(String(16), index=True)
    kind: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    intent: Mapped[str] = mapped_column(String(16), default="")
    owner: Mapped[str] = mapped_column(String(64))
    owner_name: Mapped[str] = mapped_column(String(200))
    config: Mapped[Json]
    about: Mapped[Json] = mapped_column(default=dict)
    message: Mapped[str] = mapped_column(Text, default="")
    exit_code: Mapped[int | None]
    attempt: Mapped[int] = mapped_column(default=0)
    restarts: Mapped[int] = mapped_column(default=0)
    run_id: Mapped[str | None] = mapped_column(String(80), unique=True)
    log_tail: Mapped[str] = mapped_column(Text, default="")
    model_id: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    unseen_since: Mapped[float | None]
    watched_by: Mapped[str | None] = mapped_column(String(64))
    watched_until: Mapped[float] = mapped_column(default=0.0)


class EventRow(Base):
    """Something that happened to a job."""

    __tablename__ = "job_events"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[float]
    level: Mapped[str] = mapped_column(String(8))
    type: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[Json | None]


class MetricRow(Base):
    """Line `position` of a job's metrics.jsonl."""

    __tablename__ = "job_metrics"
    __table_args__ = (UniqueConstraint("job_id", "position"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    position: Mapped[int]
    step: Mapped[int | None]
    figures: Mapped[Json]


class ArtefactRow(Base):
    """A file or a checkpoint folder that a job has written; `name` is its path in the job's folder."""

    __tablename__ = "job_artefacts"
    __table_args__ = (UniqueConstraint("job_id", "name"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(400))
    kind: Mapped[str] = mapped_column(String(16))
    step: Mapped[int | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float]


class FileRow(Base):
    """An uploaded file, or one that a batch has written; `path` is where it lies."""

    __tablename__ = "files"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]


class BatchRow(Base):
    """An OpenAI batch: the job that runs it, and the files that go with it."""

    __tablename__ = "batches"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    endpoint: Mapped[str] = mapped_column(String(64))
    completion_window: Mapped[str] = mapped_column(String(16))
    model: Mapped[str | None] = mapped_column(String(400))
    input_file_id: Mapped[str] = mapped_column(String(64))
    output_file_id: Mapped[str | None] = mapped_column(String(64))
    error_file_id: Mapped[str | None] = mapped_column(String(64))
    total: Mapped[int]
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    errors: Mapped[list[Any]] = mapped_column(default=list)
    note: Mapped[Json | None]
    created_at: Mapped[float]
    cancelling_at: Mapped[float | None]
    finished_at: Mapped[float | None]


class ModelRow(Base):
    """A model that a job has made."""

    __tablename__ = "models"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    parent: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]


class PromotionRow(Base):
    """`name` was pointed at `model_id`; the newest that is not taken back is what it means."""

    __tablename__ = "promotions"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(200), index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float]
    taken_back_at: Mapped[float | None]


class TokenRow(Base):
    """A bearer token: `digest` is the SHA-256 of its text, which is kept nowhere."""

    __tablename__ = "tokens"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]
