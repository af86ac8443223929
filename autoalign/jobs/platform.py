"""A platform's parts in one place, and what its users do with jobs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoalign.errors import InputError, UnknownName
from autoalign.jobs import kinds
from autoalign.jobs.batch_store import BatchStore
from autoalign.jobs.check import InvalidField, check
from autoalign.jobs.database import Database, new_id
from autoalign.jobs.file_store import FileStore
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.job_store import JobStore
from autoalign.jobs.model_store import ModelStore
from autoalign.jobs.references import Served, UserReferences, nothing_served
from autoalign.jobs.runners.base import Runner
from autoalign.jobs.settings import Settings
from autoalign.jobs.states import FINAL
from autoalign.jobs.tables import JobRow
from autoalign.jobs.token_store import TokenStore
from autoalign.principals import Principal


class TooManyJobs(InputError):
    """A user has too many jobs waiting."""


class WrongState(InputError):
    """A job is not in the state that this asks for."""


@dataclass(frozen=True)
class Order:
    """A job that is asked for.

    Attributes:
        api: the door it comes in by: `jobs`, `fine_tuning` or `batch`.
        about: what that door keeps with it.
    """

    kind: str
    config: Mapping[str, Any]
    api: str = "jobs"
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What the job's id begins with."""
        return "ftjob-" if self.api == "fine_tuning" else "job-"


class Platform:
    """Settings, database, runner, and the stores over them.

    Args:
        served: the folder of a model that the endpoint serves to everybody, by its id.
    """

    def __init__(
        self, settings: Settings, database: Database, runner: Runner, served: Served = nothing_served
    ) -> None:
        self.settings, self.database, self.runner, self.served = settings, database, runner, served
        self.jobs = JobStore(database)
        self.files = FileStore(database, settings.files_folder)
        self.models = ModelStore(database, settings.jobs_folder)
        self.batches = BatchStore(database, self.files)
        self.tokens = TokenStore(database)

    @classmethod
    def open(cls, settings: Settings, runner: Runner, served: Served = nothing_served) -> Platform:
        """Open the database, bringing its tables up to date."""
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(settings, Database(settings.database_url), runner, served)

    def folder(self, job_id: str) -> JobFolder:
        """A job's folder."""
        return JobFolder(self.settings.jobs_folder / job_id)

    def references(self, principal: Principal) -> UserReferences:
        """What `principal`'s names stand for."""
        return UserReferences(principal, self.settings, self.jobs, self.files, self.models, self.served)

    def submit(self, principal: Principal, order: Order, given: Mapping[str, Any] | None = None) -> JobRow:
        """Check a job's config and queue it.

        Args:
            given: keys that go before the operator's defaults, and like them are taken as they are.

        Raises:
            InvalidField: the kind or a key is wrong.
            TooManyJobs: the user has too many waiting.
        """
        job_id = new_id(order.prefix)
        folder = self.folder(job_id)
        try:
            kind = kinds.load(order.kind)
        except UnknownName as error:
            raise InvalidField("kind", str(error)) from None
        config = check(
            kind,
            order.config,
            self.references(principal),
            folder.path,
            {**self.settings.defaults.get(order.kind, {}), **(given or {})},
        )
        job = JobRow(
            id=job_id,
            api=order.api,
            kind=order.kind,
            state="queued",
            owner=principal.token_id,
            owner_name=principal.name,
            config=dict(order.config),
            about=dict(order.about),
            created_at=time.time(),
        )
        folder.create(config)
        try:
            kept = self.jobs.add(job, self.settings.limits.queued_per_user)
        except BaseException:  # whatever it was, no folder is left without its job
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        if not kept:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise TooManyJobs(f"{self.settings.limits.queued_per_user} jobs of yours are waiting already")
        return job

    def cancel(self, job: JobRow) -> JobRow:
        """Cancel a job: at once where it waits, through the watcher where it runs.

        What a batch has answered before it was paused is its owner's from then on.

        Raises:
            WrongState: it has ended.
        """
        now = time.time()
        for before in ("queued", "paused"):
            if job.state == before and self._move(job, before, "cancelled", "Cancelled", finished_at=now):
                if job.api == "batch":
                    self.batches.settle(job, self.folder(job.id), "cancelled")
                return self._again(job)
        job = self._again(job)
        if job.state == "running" and (job.intent == "cancel" or self.jobs.want(job, "cancel")):
            return self._again(job)
        if job.state == "cancelled" and job.api == "batch":  # the first time may have ended halfway
            self.batches.settle(job, self.folder(job.id), "cancelled")
        raise WrongState(f"a job that is {job.state} can't be cancelled")

    def pause(self, job: JobRow) -> JobRow:
        """Stop a job so that it can go on later from what it has saved.

        Raises:
            WrongState: it neither waits nor runs, or its kind keeps nothing to go on from.
        """
        if not kinds.load(job.kind).resumes:
            raise WrongState(f"a {job.kind} job saves nothing half-way, so it can't be paused")
        if job.state == "queued" and self._move(job, "queued", "paused", "Paused"):
            return self._again(job)
        job = self._again(job)
        if job.intent == "cancel":
            raise WrongState("a job that is being cancelled can't be paused")
        if job.state == "running" and (job.intent == "pause" or self.jobs.want(job, "pause")):
            return self._again(job)
        raise WrongState(f"a job that is {job.state} can't be paused")

    def resume(self, job: JobRow) -> JobRow:
        """Queue a paused job again.

        Raises:
            WrongState: it is not paused.
        """
        if job.state == "paused" and self._move(job, "paused", "queued", "Resumed", intent="", message=""):
            return self._again(job)
        raise WrongState(f"a job that is {self._again(job).state} can't be resumed")

    def is_over(self, job_id: str) -> bool:
        """Whether a job has ended, or is gone."""
        job = self.jobs.get(job_id)
        return job is None or job.state in FINAL

    def close(self) -> None:
        """Close the connections; jobs go on."""
        self.runner.close()
        self.database.close()

    def _move(self, job: JobRow, before: Any, after: Any, note: str, **values: Any) -> bool:
        return self.jobs.move(job, before, after, note, **values)

    def _again(self, job: JobRow) -> JobRow:
        return self.jobs.get(job.id) or job
