"""The endpoint as one ASGI application: routes, and around them ids, access and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from autoalign import __version__
from autoalign.config.serve import ServeConfig
from autoalign.serving.access import ASGIApp, RequireToken, TokenBook
from autoalign.serving.api_route import documented
from autoalign.serving.console_routes import console_router, page
from autoalign.serving.forwarding import Forwarder
from autoalign.serving.inference_routes import FORWARDED, inference_router
from autoalign.serving.limits import LimitBody, RateLimit
from autoalign.serving.local_only import LocalOnly
from autoalign.serving.metrics import Metrics
from autoalign.serving.openai_error import error_body
from autoalign.serving.registry import RegistryUnavailable
from autoalign.serving.request_log import RequestLog
from autoalign.serving.visibility import Visibility

# What a token may do, by the path's prefix; one that is not here needs any valid token.
SCOPES: Mapping[str, str] = {
    **dict.fromkeys(FORWARDED, "infer"),
    **dict.fromkeys(("/api", "/v1/files", "/v1/uploads", "/v1/fine_tuning", "/v1/batches"), "jobs"),
}


@dataclass(frozen=True)
class Parts:
    """What the application is put together from.

    Args:
        book: where tokens are looked up; None: tokens are off.
        ready: whether the model that is loaded at once answers.
        routers: further routes: jobs, files.
    """

    config: ServeConfig
    forwarder: Forwarder
    visibility: Visibility
    metrics: Metrics
    ready: Callable[[], Awaitable[bool]]
    book: TokenBook | None = None
    routers: Sequence[APIRouter] = field(default_factory=tuple)


def routes(parts: Parts) -> FastAPI:
    """All routes, and their OpenAPI document; nothing stands around them."""
    app = FastAPI(title="AutoAlign", version=__version__, docs_url=None, redoc_url=None)
    # Routes are looked through in this order, so those that are asked most stand first.
    app.include_router(inference_router(parts.forwarder, parts.visibility))
    for router in parts.routers:
        app.include_router(router)
    app.include_router(console_router())
    app.include_router(_own_routes(parts))
    app.add_exception_handler(HTTPException, _openai_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RegistryUnavailable, _unavailable)
    return app


def build_app(parts: Parts) -> ASGIApp:
    """The application, closed and bounded."""
    config = parts.config
    inner: Any = RateLimit(routes(parts), config.requests_per_minute)
    inner = LimitBody(inner, config.max_body_bytes, {"/v1/files": config.max_upload_bytes})
    inner = RequireToken(inner, parts.book, scopes=SCOPES, login=page(401))
    if parts.book is None:
        inner = LocalOnly(inner, config.host)
    return RequestLog(inner, parts.metrics)


def _own_routes(parts: Parts) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz", tags=["health"], summary="this process answers")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get(
        "/readyz",
        tags=["health"],
        summary="the model that is loaded at once answers",
        responses={503: {"description": "it is being loaded"}},
    )
    async def readyz() -> JSONResponse:
        ready = await parts.ready()
        return JSONResponse({"status": "ready" if ready else "loading"}, 200 if ready else 503)

    @router.get(
        "/metrics",
        tags=["health"],
        summary="Prometheus figures",
        response_class=PlainTextResponse,
        responses=documented(),
    )
    async def metrics() -> Response:
        text = await asyncio.to_thread(parts.metrics.text)  # jobs are counted in the database
        return Response(text, media_type="text/plain; version=0.0.4")

    return router


async def _openai_error(request: Request, error: Exception) -> Response:
    """404, 405 and what routes raise, with OpenAI's body."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    body = detail if isinstance(detail, dict) and "error" in detail else error_body(str(detail), kind)
    return JSONResponse(body, error.status_code, error.headers)


async def _unavailable(request: Request, error: Exception) -> Response:
    """Which models there are is not known now."""
    return JSONResponse(error_body(str(error), "server_error", "unavailable"), 503, {"Retry-After": "5"})


async def _invalid(request: Request, error: Exception) -> Response:
    """What FastAPI refuses by a route's types."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse(error_body(str(first["msg"]), code="invalid_value", param=field or None), 400)
