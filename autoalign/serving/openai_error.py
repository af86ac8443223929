"""Errors with the body that OpenAI's clients parse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def error_body(
    message: str, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> dict[str, dict[str, str | None]]:
    """`{"error": {message, type, param, code}}`, as OpenAI's API answers."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def send_error(
    send: Send, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> None:
    """A whole JSON answer over ASGI, for what is answered before any application is asked."""
    content = orjson.dumps(body)
    given = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    lines = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": content})
