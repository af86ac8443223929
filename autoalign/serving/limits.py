"""How much one request, and one token, may ask for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from autoalign.serving.access import ASGIApp, ASGIScope, Receive
from autoalign.serving.openai_error import Send, error_body, send_error


class BodyTooLong(HTTPException):
    """Raised where the body is read; FastAPI answers it like any other of its kind."""

    def __init__(self, most: int) -> None:
        super().__init__(413, _message(most), {"connection": "close"})


class LimitBody:
    """ASGI middleware: 413 for a body above the limit, whether its length is announced or not.

    Args:
        most: bytes.
        for_paths: another limit for paths that begin with these.
    """

    def __init__(self, app: ASGIApp, most: int, for_paths: Mapping[str, int] | None = None) -> None:
        self._app, self._most, self._for_paths = app, most, dict(for_paths or {})

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._limit(scope["path"])
        if _announced(scope) > most:
            await _too_long(send, most)
            return
        began, taken = False, 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise BodyTooLong(most)
            return message

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except BodyTooLong:
            if began:
                raise
            await _too_long(send, most)

    def _limit(self, path: str) -> int:
        return next((most for prefix, most in self._for_paths.items() if path.startswith(prefix)), self._most)


class RateLimit:
    """ASGI middleware, behind `RequireToken`: each token's requests a minute, as a bucket that refills.

    Args:
        per_minute: size of the bucket, and what flows into it in a minute; 0: no limit.
    """

    def __init__(self, app: ASGIApp, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._per_minute, self._clock = app, per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        principal = scope.get("autoalign.principal")
        wait = 0.0 if principal is None or not self._per_minute else self._take(principal.token_id)
        if wait <= 0:
            await self._app(scope, receive, send)
            return
        message = f"This token may send {self._per_minute} requests a minute; wait, then go on."
        body = error_body(message, "rate_limit_error", "rate_limit_exceeded")
        await send_error(send, 429, body, {"retry-after": str(math.ceil(wait))})

    def _take(self, token_id: str) -> float:
        """0, or the seconds until the bucket holds a whole request again."""
        now, rate = self._clock(), self._per_minute / 60
        left, then = self._buckets.get(token_id, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - then) * rate)
        self._buckets[token_id] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) / rate


def _announced(scope: ASGIScope) -> int:
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(values[0]) if values and values[0].isdigit() else 0


async def _too_long(send: Send, most: int) -> None:
    body = error_body(_message(most), code="request_too_large")
    await send_error(send, 413, body, {"connection": "close"})


def _message(most: int) -> str:
    return f"The request's body is above the limit of {most} bytes."
