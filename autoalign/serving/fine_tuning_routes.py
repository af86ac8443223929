"""`/v1/fine_tuning/jobs`, as OpenAI's API has it: supervised training and DPO."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from autoalign.jobs.check import InvalidField
from autoalign.jobs.job_store import Wanted
from autoalign.jobs.model_names import model_name
from autoalign.jobs.platform import Platform
from autoalign.jobs.tables import JobRow
from autoalign.serving.access import principal_of
from autoalign.serving.api_route import After, ApiError, ApiRoute, Limit, ObjectId, cursor, documented
from autoalign.serving.fine_tuning_objects import (
    FIELDS,
    Checkpoint,
    Event,
    FineTuningJob,
    NewFineTuningJob,
    shown_checkpoint,
    shown_event,
    shown_job,
)
from autoalign.serving.submission import Submission

_API = "fine_tuning"


class JobPage(BaseModel):
    """A page of jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class EventPage(BaseModel):
    """A page of events, the newest first."""

    object: Literal["list"] = "list"
    data: list[Event]
    has_more: bool


class CheckpointPage(BaseModel):
    """A page of checkpoints, the newest first."""

    object: Literal["list"] = "list"
    data: list[Checkpoint]
    has_more: bool
    first_id: str | None
    last_id: str | None


def fine_tuning_router(platform: Platform, submit: Submission) -> APIRouter:
    """The routes of `/v1/fine_tuning/jobs`."""
    router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=ApiRoute)

    def job_of(request: Request, job_id: str) -> JobRow:
        job = platform.jobs.get(job_id, principal_of(request))
        if job is None or job.api != _API:
            raise ApiError(404, f"Could not find fine tune: {job_id}", code="fine_tune_not_found")
        return job

    @router.post("", responses=documented())
    def create(body: NewFineTuningJob, request: Request) -> FineTuningJob:
        try:
            return shown_job(submit(request, body.order()))
        except InvalidField as error:
            key = (error.field or "").split(".")[0]
            raise InvalidField(FIELDS.get(key, error.field), error.message) from None

    @router.get("", responses=documented())
    def list_jobs(request: Request, limit: Limit = 20, after: After = None) -> JobPage:
        page = platform.jobs.page(principal_of(request), Wanted(_API), cursor(limit, after))
        return JobPage(data=[shown_job(job) for job in page.rows], has_more=page.has_more)

    @router.get("/{job_id}", responses=documented(404))
    def retrieve(job_id: ObjectId, request: Request) -> FineTuningJob:
        return shown_job(job_of(request, job_id))

    @router.post("/{job_id}/cancel", responses=documented(404, 409))
    def cancel(job_id: ObjectId, request: Request) -> FineTuningJob:
        return shown_job(platform.cancel(job_of(request, job_id)))

    @router.post("/{job_id}/pause", responses=documented(404, 409))
    def pause(job_id: ObjectId, request: Request) -> FineTuningJob:
        return shown_job(platform.pause(job_of(request, job_id)))

    @router.post("/{job_id}/resume", responses=documented(404, 409))
    def resume(job_id: ObjectId, request: Request) -> FineTuningJob:
        return shown_job(platform.resume(job_of(request, job_id)))

    @router.get("/{job_id}/events", responses=documented(404))
    def events(job_id: ObjectId, request: Request, limit: Limit = 20, after: After = None) -> EventPage:
        page = platform.jobs.events(job_of(request, job_id).id, cursor(limit, after))
        return EventPage(data=[shown_event(event) for event in page.rows], has_more=page.has_more)

    @router.get("/{job_id}/checkpoints", responses=documented(404))
    def checkpoints(
        job_id: ObjectId, request: Request, limit: Limit = 10, after: After = None
    ) -> CheckpointPage:
        job = job_of(request, job_id)
        page = platform.jobs.checkpoints(job.id, cursor(limit, after))
        lines = platform.jobs.metrics(job.id, limit=100_000) if page.rows else []
        data = [shown_checkpoint(job, model_name(job), row, lines) for row in page.rows]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return CheckpointPage(data=data, has_more=page.has_more, first_id=first, last_id=last)

    return router
