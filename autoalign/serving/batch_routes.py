"""`/v1/batches`, as OpenAI's API has it: files of chat completion requests, sampled by Ray Data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from autoalign.batching.requests import problems
from autoalign.jobs.check import InvalidField
from autoalign.jobs.database import new_id
from autoalign.jobs.platform import Order, Platform
from autoalign.jobs.tables import BatchRow, JobRow
from autoalign.serving.access import principal_of
from autoalign.serving.api_route import (
    After,
    ApiError,
    ApiRoute,
    Limit,
    Metadata,
    ObjectId,
    Strict,
    Text,
    cursor,
    documented,
)
from autoalign.serving.submission import Submission

_DAY = 24 * 3600
Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
_STATUS: dict[str, Status] = {
    "queued": "validating",
    "running": "in_progress",
    "paused": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "lost": "failed",
    "cancelled": "cancelled",
}


class NewBatch(Strict):
    """The body of a creation."""

    input_file_id: Text
    endpoint: Literal["/v1/chat/completions"]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None


class RequestCounts(BaseModel):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class BatchProblem(BaseModel):
    """What is wrong with a line of the input file."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchProblems(BaseModel):
    """What is wrong with the input file."""

    object: Literal["list"] = "list"
    data: list[BatchProblem]


class Batch(BaseModel):
    """OpenAI's batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchProblems | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None = None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    model: str | None


class BatchPage(BaseModel):
    """A page of batches, the newest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    has_more: bool
    first_id: str | None
    last_id: str | None


def batch_router(platform: Platform, submit: Submission) -> APIRouter:
    """The routes of `/v1/batches`."""
    router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=ApiRoute)

    def batch_of(request: Request, batch_id: str) -> BatchRow:
        row = platform.batches.get(batch_id, principal_of(request))
        if row is None:
            raise ApiError(404, f"No such batch: {batch_id}", code="not_found")
        return row

    def shown_row(row: BatchRow) -> Batch:
        return shown(row, platform.jobs.get(row.job_id) if row.job_id else None)

    @router.post("", responses=documented())
    def create(body: NewBatch, request: Request) -> Batch:
        principal = principal_of(request)
        file = platform.files.get(body.input_file_id, principal)
        if file is None or file.purpose != "batch":
            raise InvalidField("input_file_id", "a file of yours with the purpose 'batch' is expected")
        found, total, model = problems(Path(file.path), platform.settings.limits.batch_requests)
        row = _row(body, principal.token_id, total, model)
        if found:
            row.errors = [vars(problem) for problem in found]
            row.finished_at = row.created_at
        else:
            config = {"input_file": file.id, "model_path": model}
            try:
                job = submit(request, Order("batch", config, "batch", {"batch": row.id}))
            except InvalidField as error:
                row.errors = [_model_problem(error)]
                row.finished_at = row.created_at
            else:
                row.job_id = job.id
        return shown_row(platform.batches.add(row))

    @router.get("", responses=documented())
    def list_batches(request: Request, limit: Limit = 20, after: After = None) -> BatchPage:
        page = platform.batches.page(principal_of(request), cursor(limit, after))
        data = [shown_row(row) for row in page.rows]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return BatchPage(data=data, has_more=page.has_more, first_id=first, last_id=last)

    @router.get("/{batch_id}", responses=documented(404))
    def retrieve(batch_id: ObjectId, request: Request) -> Batch:
        return shown_row(batch_of(request, batch_id))

    @router.post("/{batch_id}/cancel", responses=documented(404, 409))
    def cancel(batch_id: ObjectId, request: Request) -> Batch:
        row = batch_of(request, batch_id)
        job = platform.jobs.get(row.job_id) if row.job_id else None
        if job is None:
            raise ApiError(409, f"a batch that is {shown(row, None).status} can't be cancelled")
        platform.cancel(job)
        platform.batches.set(row.id, cancelling_at=time.time())
        return shown_row(batch_of(request, batch_id))

    return router


def _row(body: NewBatch, owner: str, total: int, model: str | None) -> BatchRow:
    return BatchRow(
        id=new_id("batch_"),
        owner=owner,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        model=model[:400] if model else None,
        input_file_id=body.input_file_id,
        total=total,
        completed=0,
        failed=0,
        errors=[],
        note=body.metadata,
        created_at=time.time(),
    )


def _model_problem(error: InvalidField) -> dict[str, Any]:
    param = "body.model" if (error.field or "").startswith("model") else error.field
    return {"code": "model_not_found", "line": 1, "message": error.message, "param": param}


def shown(row: BatchRow, job: JobRow | None) -> Batch:
    """A row, and the job that runs it, as OpenAI's batch."""
    status: Status = "failed" if job is None else _STATUS[job.state]
    if job is not None and job.state == "running" and job.intent == "cancel":
        status = "cancelling"
    ended = _second(job.finished_at if job else row.finished_at)
    errors = [BatchProblem(**problem) for problem in row.errors]
    if job is not None and status == "failed":
        errors = [BatchProblem(code="batch_failed", line=None, message=job.message, param=None)]
    return Batch(
        id=row.id,
        endpoint=row.endpoint,
        errors=BatchProblems(data=errors) if errors else None,
        input_file_id=row.input_file_id,
        completion_window=row.completion_window,
        status=status,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=int(row.created_at),
        in_progress_at=_second(job.started_at) if job else None,
        expires_at=int(row.created_at) + _DAY,
        completed_at=ended if status == "completed" else None,
        failed_at=ended if status == "failed" else None,
        cancelling_at=_second(row.cancelling_at),
        cancelled_at=ended if status == "cancelled" else None,
        request_counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        metadata=row.note,
        model=row.model,
    )


def _second(time: float | None) -> int | None:
    return None if time is None else int(time)
