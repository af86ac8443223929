"""`/v1/files`, as OpenAI's API has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from autoalign.jobs.pages import Cursor
from autoalign.jobs.platform import Platform
from autoalign.jobs.tables import FileRow
from autoalign.serving.access import principal_of
from autoalign.serving.api_route import After, ApiError, ApiRoute, ObjectId, UploadRoute, documented
from autoalign.serving.uploads import check, read_form

Purpose = Literal["fine-tune", "batch", "batch_output", "user_data"]
# What may be uploaded for what, by the file's ending.
_ENDINGS = {
    "fine-tune": (".jsonl",),
    "batch": (".jsonl",),
    "user_data": (".jsonl", ".json", ".csv", ".txt"),
}
_BYTES = {"content": {"application/octet-stream": {}}, "description": "The file"}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(_ENDINGS)},
                    },
                }
            }
        },
    }
}


class FileObject(BaseModel):
    """OpenAI's file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"


class FileDeleted(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


def file_router(platform: Platform) -> APIRouter:
    """The routes of `/v1/files`."""
    router = APIRouter(prefix="/v1/files", tags=["files"], route_class=ApiRoute)

    def row_of(request: Request, file_id: str) -> FileRow:
        row = platform.files.get(file_id, principal_of(request))
        if row is None:
            raise ApiError(404, f"No such File object: {file_id}", code="not_found", param="id")
        return row

    @router.get("", responses=documented())
    def list_files(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        after: After = None,
        purpose: Purpose | None = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> FileList:
        where = Cursor(limit, after, oldest_first=order == "asc")
        page = platform.files.page(principal_of(request), purpose, where)
        data = [shown(row) for row in page.rows]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, has_more=page.has_more, first_id=first, last_id=last)

    @router.get("/{file_id}", responses=documented(404))
    def retrieve(file_id: ObjectId, request: Request) -> FileObject:
        return shown(row_of(request, file_id))

    @router.get(
        "/{file_id}/content",
        response_class=Response,
        responses={
            **documented(404),
            200: {"content": {"application/octet-stream": {}}, "description": "Bytes"},
        },
    )
    def content(file_id: ObjectId, request: Request) -> Response:
        row = row_of(request, file_id)
        if not Path(row.path).is_file():
            raise ApiError(404, f"the bytes of {file_id} are gone", code="not_found")
        return FileResponse(row.path, media_type="application/octet-stream", filename=row.filename)

    @router.delete("/{file_id}", responses=documented(404))
    def delete(file_id: ObjectId, request: Request) -> FileDeleted:
        platform.files.remove(row_of(request, file_id))
        return FileDeleted(id=file_id, deleted=True)

    _add_upload(router, platform)
    return router


def _add_upload(router: APIRouter, platform: Platform) -> None:
    async def create(request: Request) -> FileObject:
        principal, limits = principal_of(request), platform.settings.limits
        if await run_in_threadpool(platform.files.count, principal) >= limits.files_per_user:
            raise ApiError(429, f"{limits.files_per_user} files are kept for you already; delete some")
        with platform.files.upload() as upload:
            form = await read_form(request, upload, limits)
            purpose, filename = _checked(form.fields, form.filename)
            upload.file.flush()
            await run_in_threadpool(check, upload.path, Path(filename).suffix.lower(), limits)
            row = await run_in_threadpool(platform.files.keep, upload, principal.token_id, filename, purpose)
        return shown(row)

    router.add_api_route(
        "",
        create,
        methods=["POST"],
        responses=documented(),
        openapi_extra=_FORM,
        route_class_override=UploadRoute,
    )


def _checked(fields: dict[str, str], filename: str | None) -> tuple[str, str]:
    """(purpose, filename) of a form."""
    unknown = sorted(fields.keys() - {"purpose"})
    if unknown:
        raise ApiError(400, f"unknown field '{unknown[0]}'", param=unknown[0], code="unknown_parameter")
    purpose = fields.get("purpose", "")
    if purpose not in _ENDINGS:
        message = f"'purpose': one of {', '.join(_ENDINGS)} is expected"
        raise ApiError(400, message, param="purpose", code="invalid_value")
    if filename is None:
        raise ApiError(400, "'file' is missing", param="file", code="missing_required_parameter")
    if Path(filename).suffix.lower() not in _ENDINGS[purpose]:
        message = f"'file': a name that ends in {' or '.join(_ENDINGS[purpose])} is expected for {purpose}"
        raise ApiError(400, message, param="file", code="invalid_value")
    return purpose, filename


def shown(row: FileRow) -> FileObject:
    """A row as OpenAI's file."""
    values: dict[str, Any] = {"purpose": row.purpose}
    return FileObject(
        id=row.id, bytes=row.bytes, created_at=int(row.created_at), filename=row.filename, **values
    )
