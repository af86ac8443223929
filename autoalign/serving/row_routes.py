"""`/api/rows`: lines of a file that a job has read or written, page by page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from autoalign.jobs.platform import Platform
from autoalign.serving.access import principal_of
from autoalign.serving.api_route import ApiError, ApiRoute, Limit, documented

_READABLE = (".jsonl", ".json", ".csv", ".txt", ".md", ".yaml")
_LONGEST = 1 << 20  # bytes of a line
_MOST = 4 << 20  # bytes of an answer


class Row(BaseModel):
    """A line as it stands in the file; `cut` where it is longer than an answer may be."""

    offset: int
    text: str
    cut: bool = False


class RowPage(BaseModel):
    """Lines; `next` is the `offset` of the page behind, None at the end. `bytes` is the file's size."""

    object: Literal["list"] = "list"
    data: list[Row]
    next: int | None
    bytes: int


def row_router(platform: Platform) -> APIRouter:
    """The route of `/api/rows`."""
    router = APIRouter(prefix="/api", tags=["rows"], route_class=ApiRoute)

    @router.get("/rows", responses=documented(404))
    def rows(
        request: Request,
        source: Annotated[
            str,
            Query(
                min_length=1,
                max_length=1000,
                description="a name that a job's config may give: a file's id, JOB/PATH of what a job has "
                "written, or a file below one of the platform's roots",
            ),
        ],
        offset: Annotated[int, Query(ge=0, le=1 << 40, description="bytes to leave out at the front")] = 0,
        limit: Limit = 20,
    ) -> RowPage:
        found = platform.references(principal_of(request)).data(source)
        path = None if found is None else Path(found)
        if path is None or not path.is_file():
            raise ApiError(404, f"no file '{source}'", code="not_found", param="source")
        if not source.startswith("file-") and path.suffix not in _READABLE:
            message = f"a file of text is expected: {', '.join(_READABLE)}"
            raise ApiError(400, message, code="invalid_value", param="source")
        return read_page(path, offset, limit)

    return router


def read_page(path: Path, offset: int, limit: int) -> RowPage:
    """Up to `limit` whole lines from the first one that begins at `offset` or behind it.

    A `.json` file counts as one line.
    """
    rows: list[Row] = []
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if path.suffix == ".json":
            text = file.read(_MOST).decode("utf-8", "replace")
            return RowPage(data=[Row(offset=0, text=text, cut=size > _MOST)], next=None, bytes=size)
        if offset:
            file.seek(offset - 1)
            _to_line_end(file)
        first = position = file.tell()
        while len(rows) < limit and position < size and position - first < _MOST:
            line = file.readline(_LONGEST)
            cut = not line.endswith(b"\n") and not _to_line_end(file)
            rows.append(Row(offset=position, text=line.decode("utf-8", "replace").rstrip("\r\n"), cut=cut))
            position = file.tell()
    return RowPage(data=rows, next=position if position < size else None, bytes=size)


def _to_line_end(file: BinaryIO) -> bool:
    """Go behind the line's end, in pieces that fit into memory; whether it was the file's end already."""
    piece = file.readline(_LONGEST)
    at_end = not piece
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(_LONGEST)
    return at_end
