"""A request's way to an engine and its answer's way back: bytes, unread, as they come.

An answer goes on piece by piece. When the client hangs up, the connection to the engine is closed at
once, and vLLM aborts the request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from starlette.requests import Request
from starlette.responses import Response

from autoalign.principals import Principal
from autoalign.serving import leases, request_body, request_log
from autoalign.serving.access import PRINCIPAL, ASGIScope, Receive
from autoalign.serving.engines import EngineGone, Engines, Refused
from autoalign.serving.leases import Grant
from autoalign.serving.metrics import Metrics
from autoalign.serving.openai_error import Send, error_body, send_error
from autoalign.serving.placement import Refusal, unknown_model
from autoalign.serving.stream_usage import StreamUsage, completion_tokens

_TRIES = 3
_NO_ROUTE = "Not Found"
_TOO_LONG = "maximum context length"
_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would gather a stream's pieces
]
log = logging.getLogger("autoalign.serving")

# What ends a stream in place of its end; OpenAI's client raises it.
_CUT_SHORT = b"data: %b\n\n" % orjson.dumps(
    error_body("The engine went away while it answered; try again.", "server_error", "engine_gone")
)
_UNREACHABLE = Refusal(503, "The engine went away before it answered; try again.", None, 1)


class Forwarder:
    """Sends requests to engines.

    Args:
        may_use: whether a token may name a model.
        default_model: for a request that names none.
    """

    def __init__(
        self,
        engines: Engines,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        may_use: Callable[[Principal, str], Awaitable[bool]],
        default_model: str | None,
    ) -> None:
        self._engines, self._session, self._metrics = engines, session, metrics
        self._may_use, self._default = may_use, default_model

    async def answer(self, request: Request) -> Forwarded:
        """The response to a request that an engine answers."""
        return Forwarded(self, await request.body(), time.perf_counter())

    async def forward(self, content: bytes, began: float, scope: ASGIScope, send: Send) -> None:
        """Answer over ASGI; a refusal is an answer too."""
        try:
            body = request_body.parse(content)
            model = request_body.model_of(body, self._default)
            if model != self._default and not await self._may_use(scope[PRINCIPAL], model):
                raise Refused(unknown_model(model))
            await self._try(body, model, began, scope, send)
        except Refused as error:
            await _refuse(error.refusal, send)

    async def _try(
        self, body: Mapping[str, Any], model: str, began: float, scope: ASGIScope, send: Send
    ) -> None:
        """Until an engine has begun to answer, another one may: nothing was said yet."""
        path = scope["path"]
        usage = StreamUsage(hidden=request_body.hides_usage(body, path))
        for _ in range(_TRIES):
            try:
                async with self._engines.lease(model) as grant:
                    content = request_body.for_engine(body, path, grant)
                    async with self._asked(grant, content, scope) as upstream:
                        await _Relay(upstream, send, self._metrics, model, usage, began).run()
                    return
            except EngineGone as error:
                log.warning("engine of %s went away: %s", model, error)
        raise Refused(_UNREACHABLE)

    @asynccontextmanager
    async def _asked(
        self, grant: Grant, content: bytes, scope: ASGIScope
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The engine's answer, once its head is there.

        Raises:
            EngineGone: it does not come.
        """
        headers = {
            "content-type": "application/json",
            leases.HEADER: grant.lease,
            request_log.HEADER: request_log.request_id_of(scope),
        }
        try:
            upstream = await self._session.post(grant.url + scope["path"], data=content, headers=headers)
        except aiohttp.ClientConnectionError as error:
            raise EngineGone(str(error)) from error
        async with upstream:
            yield upstream


class Forwarded(Response):
    """A response that is cut short when the client hangs up."""

    def __init__(self, forwarder: Forwarder, content: bytes, began: float) -> None:
        super().__init__()
        self._forwarder, self._content, self._began = forwarder, content, began

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._forwarder.forward(self._content, self._began, scope, send))
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


class _Relay:
    """One answer on its way from an engine to a client."""

    def __init__(
        self,
        upstream: aiohttp.ClientResponse,
        send: Send,
        metrics: Metrics,
        model: str,
        usage: StreamUsage,
        began: float,
    ) -> None:
        self._upstream, self._send, self._model, self._began = upstream, send, model, began
        self._metrics, self._usage = metrics, usage

    async def run(self) -> None:
        if self._upstream.status >= 400:
            await self._error()
        elif self._upstream.content_type == "text/event-stream":
            await self._stream()
        else:
            await self._whole()

    async def _stream(self) -> None:
        begun = False
        try:
            async for piece in self._upstream.content.iter_any():
                ready = self._usage.take(piece)
                if not begun:
                    begun = True
                    self._observe_first()
                    await self._start(200, _STREAM)
                await self._send({"type": "http.response.body", "body": ready, "more_body": True})
            if not begun:
                raise EngineGone("it said nothing")
        except aiohttp.ClientError as error:
            if not begun:
                raise EngineGone(str(error)) from error
            log.warning("engine of %s went away while it answered: %s", self._model, error)
            await self._send({"type": "http.response.body", "body": _CUT_SHORT, "more_body": True})
        finally:
            self._count(self._usage.tokens)  # a client that hung up has had tokens too
        await self._send({"type": "http.response.body", "body": self._usage.rest()})

    async def _whole(self) -> None:
        content = await self._read()
        self._observe_first()
        self._count(completion_tokens(content) or 0)
        await self._finish(self._upstream.status, content)

    async def _read(self) -> bytes:
        try:
            return await self._upstream.read()
        except aiohttp.ClientError as error:
            raise EngineGone(str(error)) from error

    async def _error(self) -> None:
        """What vLLM refuses, as OpenAI says it."""
        path = self._upstream.url.path
        await self._finish(*openai_style(self._upstream.status, await self._read(), path))

    async def _finish(self, status: int, content: bytes) -> None:
        length = str(len(content)).encode()
        await self._start(status, [(b"content-type", b"application/json"), (b"content-length", length)])
        await self._send({"type": "http.response.body", "body": content})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def _count(self, tokens: int) -> None:
        self._metrics.output_tokens.labels(self._model).inc(tokens)

    def _observe_first(self) -> None:
        self._metrics.first_token.labels(self._model).observe(time.perf_counter() - self._began)


def openai_style(status: int, content: bytes, path: str) -> tuple[int, bytes]:
    """vLLM's error with OpenAI's types: it writes the status as the code, and names of its own."""
    try:
        told = orjson.loads(content)["error"]
        message, param = str(told["message"]), told.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        message, param = _NO_ROUTE if status == 404 else "The engine refused the request.", None
    code = "model_not_found" if status == 404 else None
    if _TOO_LONG in message:
        code = "context_length_exceeded"
    if message == _NO_ROUTE:  # vLLM has routes for what its model can do, and no others
        status, code, message = 400, "unsupported_by_model", f"This model has no use for {path}."
    if status == 501:
        status = 400  # what this model can't do is for the client to change
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return status, orjson.dumps(error_body(message, kind, code, param if isinstance(param, str) else None))


async def _refuse(refusal: Refusal, send: Send) -> None:
    kinds = {429: "rate_limit_error", 503: "server_error"}
    kind = kinds.get(refusal.status, "invalid_request_error")
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    await send_error(send, refusal.status, error_body(refusal.message, kind, refusal.code), headers)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
