"""A request's id, its log line and its figures, around everything else.

A line holds the id, the token's id, method, path, status and seconds. Headers, bodies and query
strings are never logged: they may hold secrets.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from autoalign.serving.access import ASGIApp, ASGIScope, Receive
from autoalign.serving.metrics import Metrics
from autoalign.serving.openai_error import Send, error_body, send_error

HEADER = "x-request-id"
_KEY = "autoalign.request_id"
_VALID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
log = logging.getLogger("autoalign.serving.requests")


def request_id_of(scope: MutableMapping[str, Any]) -> str:
    """The id of a request; `-` where none came through `RequestLog`."""
    return str(scope.get(_KEY, "-"))


class RequestLog:
    """ASGI middleware: takes the client's X-Request-ID or makes one, and answers with it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = scope[_KEY] = given_id(scope) or f"req-{uuid.uuid4().hex}"
        status = 0

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER.encode(), request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:  # the boundary of a request: others go on
            log.exception("request %s failed", request_id)
            if status:
                raise  # uvicorn cuts the connection: the client must not take this for a whole answer
            body = error_body(f"The server failed; its log names request {request_id}.", "server_error")
            await send_error(send_with_id, 500, body)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - began)

    def _note(self, scope: ASGIScope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(_method(scope), route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        who = getattr(scope.get("autoalign.principal"), "token_id", "-")
        path = scope["path"].encode("unicode_escape").decode()  # one request, one line
        log.info("%s %s %s %s %s %.3f", request_id, who, scope["method"], path, status, seconds)


def given_id(scope: ASGIScope) -> str | None:
    """The id in the request's header, where it is one."""
    given = [value for name, value in scope["headers"] if name == HEADER.encode()]
    return given[0].decode() if len(given) == 1 and _VALID.fullmatch(given[0]) else None


def _method(scope: ASGIScope) -> str:
    """The method, where it is one of HTTP's own: a label takes no text of a user's."""
    known = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
