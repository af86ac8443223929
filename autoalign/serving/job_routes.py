"""`/api/jobs`: every kind of job, by the platform's own names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from autoalign.jobs import kinds
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.job_store import Wanted
from autoalign.jobs.platform import Order, Platform
from autoalign.jobs.states import FINAL
from autoalign.jobs.tables import JobRow
from autoalign.serving.access import principal_of
from autoalign.serving.api_route import (
    After,
    ApiError,
    ApiRoute,
    Limit,
    ObjectId,
    Strict,
    Text,
    cursor,
    documented,
)
from autoalign.serving.submission import Submission

_CHUNK = 64 << 10
_LOOK_EVERY = 0.5  # seconds


class NewJob(Strict):
    """A job to run: `kind`, and the keys of that kind's config."""

    kind: Text
    config: dict[str, Any] = Field(max_length=200)


class Artefact(BaseModel):
    """A file or checkpoint that a job has written; `JOB/NAME` names it in another job's config."""

    name: str
    kind: Literal["file", "checkpoint"]
    step: int | None
    bytes: int


class Job(BaseModel):
    """A job as it is now. `intent` says what is wanted of it until it has come about."""

    id: str
    object: Literal["job"] = "job"
    kind: str
    api: str
    state: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "lost"]
    intent: Literal["", "cancel", "pause"]
    owner: str
    message: str
    exit_code: int | None
    attempt: int
    model: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    config: dict[str, Any]


class JobDetails(Job):
    """A job with what it has written."""

    log_tail: str
    artefacts: list[Artefact]


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[Job]
    has_more: bool


class Figures(BaseModel):
    """Lines of metrics.jsonl; `next` is where to go on from."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    next: int


class KindDetails(BaseModel):
    """A kind of job, and the JSON schema of its config.

    `closed` are keys that a job may not set, `models` and `files` those that name such things, and
    `outputs` those that the platform sets where the job does not.
    """

    name: str
    summary: str
    config: dict[str, Any]
    closed: list[str]
    models: list[str]
    files: list[str]
    outputs: list[str]


class KindList(BaseModel):
    """The kinds there are."""

    object: Literal["list"] = "list"
    data: list[KindDetails]


def job_router(platform: Platform, submit_job: Submission) -> APIRouter:
    """The routes of `/api/jobs` and `/api/kinds`."""
    router = APIRouter(prefix="/api", tags=["jobs"], route_class=ApiRoute)

    def job_of(request: Request, job_id: str) -> JobRow:
        job = platform.jobs.get(job_id, principal_of(request))
        if job is None:
            raise ApiError(404, f"no job '{job_id}'", code="not_found")
        return job

    @router.get("/kinds", responses=documented())
    def list_kinds() -> KindList:
        return KindList(data=[_kind(name) for name in kinds.names()])

    @router.post("/jobs", status_code=201, responses=documented())
    def submit(body: NewJob, request: Request) -> Job:
        return shown(submit_job(request, Order(body.kind, body.config)))

    @router.get("/jobs", responses=documented())
    def list_jobs(
        request: Request,
        limit: Limit = 20,
        after: After = None,
        kind: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,40}$")] = None,
        state: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,20}$")] = None,
    ) -> JobList:
        page = platform.jobs.page(principal_of(request), Wanted(None, kind, state), cursor(limit, after))
        return JobList(data=[shown(job) for job in page.rows], has_more=page.has_more)

    @router.get("/jobs/{job_id}", responses=documented(404))
    def show(job_id: ObjectId, request: Request) -> JobDetails:
        job = job_of(request, job_id)
        found = [
            Artefact(name=row.name, kind=row.kind, step=row.step, bytes=row.bytes)
            for row in platform.jobs.artefacts(job.id)
        ]
        return JobDetails(**shown(job).model_dump(), log_tail=job.log_tail, artefacts=found)

    @router.get("/jobs/{job_id}/metrics", responses=documented(404))
    def metrics(
        job_id: ObjectId,
        request: Request,
        start: Annotated[int, Query(ge=0, le=1 << 30)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Figures:
        rows = platform.jobs.metrics(job_of(request, job_id).id, start - 1, limit)
        return Figures(data=[row.figures for row in rows], next=rows[-1].position + 1 if rows else start)

    @router.get(
        "/jobs/{job_id}/logs",
        response_class=Response,
        responses={**documented(404), 200: {"content": {"text/plain": {}}, "description": "The log"}},
    )
    def logs(
        job_id: ObjectId,
        request: Request,
        follow: bool = False,
        offset: Annotated[int, Query(ge=0, le=1 << 40, description="bytes to leave out at the front")] = 0,
    ) -> Response:
        job = job_of(request, job_id)
        folder = platform.folder(job.id)
        if not folder.log.is_file() and job.state in FINAL:
            return PlainTextResponse(job.log_tail)
        text = _log(platform, job.id, folder, offset, follow)
        return StreamingResponse(text, media_type="text/plain; charset=utf-8")

    _add_actions(router, platform, job_of)
    return router


def _add_actions(router: APIRouter, platform: Platform, job_of: Any) -> None:
    @router.post("/jobs/{job_id}/stop", responses=documented(404, 409))
    def stop(job_id: ObjectId, request: Request) -> Job:
        return shown(platform.cancel(job_of(request, job_id)))

    @router.post("/jobs/{job_id}/pause", responses=documented(404, 409))
    def pause(job_id: ObjectId, request: Request) -> Job:
        return shown(platform.pause(job_of(request, job_id)))

    @router.post("/jobs/{job_id}/resume", responses=documented(404, 409))
    def resume(job_id: ObjectId, request: Request) -> Job:
        return shown(platform.resume(job_of(request, job_id)))


def shown(job: JobRow) -> Job:
    """A row as the API shows it."""
    names = ("id", "kind", "api", "state", "intent", "message", "exit_code", "attempt", "config")
    times = {name: _second(getattr(job, name)) for name in ("created_at", "started_at", "finished_at")}
    values = {name: getattr(job, name) for name in names}
    return Job(**values, **times, owner=job.owner_name, model=job.model_id)


def _second(time: float | None) -> int | None:
    return None if time is None else int(time)


def _kind(name: str) -> KindDetails:
    kind = kinds.load(name)

    def keys(role: kinds.Role) -> list[str]:
        return [key for key in kind.config.model_fields if kind.role(key) is role]

    schema = kind.config.model_json_schema()
    return KindDetails(
        name=name,
        summary=schema.get("description", "").split("\n")[0],
        config=schema,
        closed=keys(kinds.Role.CLOSED),
        models=keys(kinds.Role.MODEL),
        files=keys(kinds.Role.DATA),
        outputs=keys(kinds.Role.OUTPUT),
    )


async def _log(
    platform: Platform, job_id: str, folder: JobFolder, offset: int, follow: bool
) -> AsyncIterator[bytes]:
    """The log from `offset`; with `follow` until the job has ended, and then what is left of it."""
    while True:
        over = not follow or await run_in_threadpool(platform.is_over, job_id)
        while chunk := await run_in_threadpool(_read, folder, offset):
            offset += len(chunk)
            yield chunk
        if over:
            return
        await anyio.sleep(_LOOK_EVERY)


def _read(folder: JobFolder, offset: int) -> bytes:
    try:
        with folder.log.open("rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except FileNotFoundError:
        return b""
