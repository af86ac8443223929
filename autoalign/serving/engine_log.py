"""What an engine's log says of a request: under the id that the gateway's log has for it."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from autoalign.serving import request_log
from autoalign.serving.access import ASGIApp, ASGIScope, Receive
from autoalign.serving.openai_error import Send

log = logging.getLogger("autoalign.serving.engine")


class EngineLog:
    """ASGI middleware: a line for each request, of its id, path, status and seconds; nothing of its body.

    Status 0: it was cut off before the engine had begun to answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_on(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            seconds = time.perf_counter() - began
            log.info("%s %s %s %.3f", request_log.given_id(scope) or "-", scope["path"], status, seconds)
