"""What the routes of jobs, files and models share: bounded bodies, errors in OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import exc
from starlette.exceptions import HTTPException

from autoalign.errors import InputError
from autoalign.jobs.check import InvalidField, is_storable
from autoalign.jobs.model_store import NothingBefore
from autoalign.jobs.pages import Cursor
from autoalign.jobs.platform import TooManyJobs, WrongState
from autoalign.serving.openai_error import error_body

BODY_BYTES = 1 << 20
_ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$"


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """OpenAI's error."""

    error: ErrorDetail


class ApiError(HTTPException):
    """An answer other than success. FastAPI lets its kind through from where a body is read."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(status, message)
        self.code, self.param = code, param


class Strict(BaseModel):
    """A request's body: no unknown keys, no type changed in silence."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


def plain(text: str) -> str:
    """Text that a database can keep: no NUL, no half of a surrogate pair.

    Raises:
        ValueError: it holds one.
    """
    if not is_storable(text):
        raise ValueError("UTF-8 text without NUL is expected")
    return text


Text = Annotated[str, Field(max_length=400), AfterValidator(plain)]
Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=64), AfterValidator(plain)],
        Annotated[str, Field(max_length=512), AfterValidator(plain)],
    ],
    Field(max_length=16),
]
ObjectId = Annotated[str, Path(pattern=_ID)]
After = Annotated[str | None, Query(pattern=_ID, description="the id of the last object of the page before")]
Limit = Annotated[int, Query(ge=1, le=100, description="how many objects at most")]


def cursor(limit: int, after: str | None) -> Cursor:
    """The page that a request asks for."""
    return Cursor(limit, after)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: those errors, and those that any route may give."""
    return {
        status: {"model": ErrorBody, "description": _MEANINGS[status]}
        for status in sorted({400, 401, 403, 413, 429, 503, *statuses})
    }


_MEANINGS = {
    400: "The request is wrong; `param` names the field",
    401: "No valid token",
    403: "The token lacks a scope",
    404: "There is no such object for this token",
    409: "The object's state does not allow it",
    413: "Too large",
    415: "An encoding that is not accepted",
    429: "Too many at once; try again later",
    503: "The platform's database does not answer",
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ApiRoute(APIRoute):
    """A route whose body is bounded before it is read, and whose errors are OpenAI's."""

    most: int | None = BODY_BYTES

    def get_route_handler(self) -> Handler:
        """The handler, wrapped."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request if self.most is None else bounded(request, self.most))
            except Exception as error:  # the boundary to HTTP: what has no answer of its own goes on
                answer = _answer(error)
                if answer is None:
                    raise
                return answer

        return handle


class UploadRoute(ApiRoute):
    """A route that bounds its body by itself."""

    most = None


def bounded(request: Request, most: int) -> Request:
    """The request, whose body may not exceed `most` bytes, whatever its headers claim.

    Raises:
        ApiError: its headers claim more already, or name an encoding.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(400, "a body without Content-Encoding is expected", code="unsupported_encoding")
    claimed = request.headers.get("content-length", "0")
    if not claimed.isdecimal() or int(claimed) > most:
        raise ApiError(413, f"a body of at most {most} bytes is expected", code="too_large")
    seen = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise ApiError(413, f"a body of at most {most} bytes is expected", code="too_large")
        return message

    return Request(request.scope, receive)


def _answer(error: Exception) -> Response | None:
    """The answer to an error that has one."""
    if isinstance(error, ApiError):
        return _json(error.status_code, error.detail, error.code, error.param)
    if isinstance(error, RequestValidationError):
        return _json(400, *_first_problem(error))
    if isinstance(error, InvalidField):
        return _json(400, str(error), "invalid_value", error.field)
    if isinstance(error, TooManyJobs):
        return _json(429, str(error), "too_many_jobs", headers={"Retry-After": "30"})
    if isinstance(error, WrongState | NothingBefore):
        return _json(409, str(error), "wrong_state")
    if isinstance(error, InputError):
        return _json(400, str(error), "invalid_value")
    if isinstance(error, HTTPException):
        return _json(error.status_code, str(error.detail))
    if isinstance(error, exc.DataError):
        return _json(
            400, "the database can't keep such a value: NUL, or a number beyond its range", "invalid_value"
        )
    if isinstance(error, exc.OperationalError):
        return _json(
            503, "the platform's database does not answer", "unavailable", headers={"Retry-After": "5"}
        )
    return None


def _first_problem(error: RequestValidationError) -> tuple[str, str, str | None]:
    detail = error.errors()[0]
    field = _readable(".".join(str(part) for part in detail["loc"][1:]))[:200]
    message = str(detail["msg"]).removeprefix("Value error, ")
    return (f"'{field}': {message}" if field else message, "invalid_value", field or None)


def _json(
    status: int,
    message: str,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = error_body(_readable(message)[:4000], kind, code, None if param is None else _readable(param))
    return JSONResponse(body, status, dict(headers or {}))


def _readable(text: str) -> str:
    """With `?` for what can't be written."""
    return text.encode("utf-8", "replace").decode()
