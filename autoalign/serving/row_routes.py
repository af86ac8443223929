"""`/api/rows`: rows of a file that a job has read or written, page by page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from autoalign import formats
from autoalign.jobs.platform import Platform
from autoalign.serving.access import principal_of
from autoalign.serving.api_route import ApiError, ApiRoute, Limit, documented

_READABLE = (".jsonl", ".json", ".csv", ".txt", ".md", ".yaml")
_LONGEST = 1 << 20  # bytes of a line
_MOST = 4 << 20  # bytes of an answer
_PIECE = 1 << 16  # bytes that are looked through at a time
_MARKS = re.compile(rb'["\\\[\]{},]')


class Row(BaseModel):
    """A line, or an array's element, as it stands in the file; `cut` where it is longer than a row may be."""

    offset: int
    text: str
    cut: bool = False


class RowPage(BaseModel):
    """Rows; `next` is the `offset` of the page behind, None at the end. `bytes` is the file's size."""

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
    """Up to `limit` whole rows from the first one that begins at `offset` or behind it.

    A row is a line. Of a `.json` file that is an array it is an element, and `offset` is 0 or what the page
    before gave as `next`; another `.json` file is one row, unless its first line is whole JSON.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if path.suffix == ".json":
            head = file.read(_LONGEST)
            begin = head.removeprefix(formats.BOM).lstrip()
            if begin.startswith(b"["):
                return _elements(file, offset or len(head) - len(begin) + 1, limit, size)
            if not formats.is_json(begin.partition(b"\n")[0]):
                file.seek(0)
                text = file.read(_MOST).decode("utf-8", "replace")
                return RowPage(data=[Row(offset=0, text=text, cut=size > _MOST)], next=None, bytes=size)
        return _lines(file, offset, limit, size)


def _lines(file: BinaryIO, offset: int, limit: int, size: int) -> RowPage:
    rows: list[Row] = []
    file.seek(max(offset - 1, 0))
    if offset:
        _to_line_end(file)
    first = position = file.tell()
    while len(rows) < limit and position < size and position - first < _MOST:
        line = file.readline(_LONGEST)
        cut = not line.endswith(b"\n") and not _to_line_end(file)
        rows.append(Row(offset=position, text=line.decode("utf-8", "replace").rstrip("\r\n"), cut=cut))
        position = file.tell()
    return RowPage(data=rows, next=position if position < size else None, bytes=size)


def _elements(file: BinaryIO, first: int, limit: int, size: int) -> RowPage:
    """The elements of an array from the one that begins at `first`; what is not shown is not kept."""
    rows: list[Row] = []
    position = first
    for end, goes_on in _element_ends(file, first):
        text = os.pread(file.fileno(), min(end - position, _LONGEST), position).strip()
        if text:
            cut = end - position > _LONGEST
            rows.append(Row(offset=position, text=text.decode("utf-8", "replace"), cut=cut))
        position = end + 1
        if goes_on and (len(rows) == limit or position - first >= _MOST):
            return RowPage(data=rows, next=position, bytes=size)
    return RowPage(data=rows, next=None, bytes=size)


def _element_ends(file: BinaryIO, first: int) -> Iterator[tuple[int, bool]]:
    """Where each element ends, and whether another one follows."""
    depth = 0
    for place, mark in _marks(file, first):
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            if depth < 0:
                yield place, False
                return
        elif depth == 0 and mark == b",":
            yield place, True
    yield file.tell(), False


def _marks(file: BinaryIO, position: int) -> Iterator[tuple[int, bytes]]:
    """Brackets and commas that are not within a text, each with its place."""
    in_text, escaped = False, -1
    file.seek(position)
    while piece := file.read(_PIECE):
        for found in _MARKS.finditer(piece):
            place, mark = position + found.start(), found[0]
            if place == escaped:
                continue
            if in_text and mark == b"\\":
                escaped = place + 1
            elif mark == b'"':
                in_text = not in_text
            elif not in_text:
                yield place, mark
        position += len(piece)


def _to_line_end(file: BinaryIO) -> bool:
    """Go behind the line's end, in pieces that fit into memory; whether it was the file's end already."""
    piece = file.readline(_LONGEST)
    at_end = not piece
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(_LONGEST)
    return at_end
