"""A lease is the right to send requests, one at a time, straight to an engine's own HTTP server.

Ray Serve chooses the replica and counts the lease as a request in flight, which is what its
autoscaling, its queue limit and its draining look at; the request's bytes take the short way, over
a socket. The gateway holds it for the next request, and gives it back (`lease_pool.py`). The server
answers nothing that carries no lease, so that its port is not an open door.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from autoalign.serving.access import ASGIApp, ASGIScope, Receive
from autoalign.serving.openai_error import Send, error_body, send_error

HEADER = "x-autoalign-lease"
END_PATH = "/lease"  # DELETE gives it back


@dataclass(frozen=True)
class Grant:
    """What the gateway needs to use a lease.

    Args:
        url: the engine's server, such as `http://10.0.0.3:41234`.
        lease: the secret that opens it.
        model: the id that the engine knows the model by.
        stop: texts that end an answer of its chat template, where no single token does.
        stop_token_ids: tokens that end an answer, beyond those that the engine knows.
        chat_template: the adapter's own, where it differs from its base model's.
    """

    url: str
    lease: str
    model: str
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    chat_template: str | None = None


@dataclass
class Lease:
    """One lease: over once it was given back and its last request is answered or gone."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    _requests: int = 0
    _given_back: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A request is at work."""
        self._requests += 1
        self._changed.set()
        try:
            yield
        finally:
            self._requests -= 1
            self._changed.set()

    def give_back(self) -> None:
        """No further request comes."""
        self._given_back = True
        self._changed.set()

    async def over(self, patience: float) -> None:
        """Wait until it is; one that is not used for `patience` seconds is, too."""
        while self._requests or not self._given_back:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), None if self._requests else patience)
            except TimeoutError:
                return


class Leases:
    """The leases that were given out."""

    def __init__(self) -> None:
        self._open: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._open)

    def new(self) -> Lease:
        """Give out a lease."""
        lease = Lease()
        self._open[lease.id] = lease
        return lease

    def end(self, lease: Lease) -> None:
        """Forget a lease; a request that carries it comes too late."""
        self._open.pop(lease.id, None)

    def find(self, given: str) -> Lease | None:
        """The lease of that id."""
        return self._open.get(given)


class LeasedOnly:
    """ASGI middleware: a request without a lease is answered 403."""

    def __init__(self, app: ASGIApp, leases: Leases) -> None:
        self._app, self._leases = app, leases

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        lease = self._leases.find(_header(scope))
        if lease is None or scope["type"] != "http":
            await send_error(send, 403, error_body("This server answers the gateway alone."))
        elif (scope["method"], scope["path"]) == ("DELETE", END_PATH):
            self._leases.end(lease)
            lease.give_back()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            with lease.in_use():
                await self._app(scope, receive, send)


def _header(scope: ASGIScope) -> str:
    wanted = HEADER.encode()
    values: list[Any] = [value for name, value in scope["headers"] if name == wanted]
    return values[0].decode("ascii", "replace") if len(values) == 1 else ""
