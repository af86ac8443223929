"""uvicorn inside a Ray actor: on the actor's event loop, and without signal handlers of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

_KEEP_ALIVE = 600  # seconds; an engine's server must not close what the gateway is about to use
_BACKLOG = 2048


class HttpServer(uvicorn.Server):
    """Serves on one socket until `close`."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=_KEEP_ALIVE)
        )
        self._bound = bound
        self._task = asyncio.get_running_loop().create_task(self.serve(sockets=[bound]))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: they are Ray's."""
        yield

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self) -> None:
        """Take no new connection, finish the requests in flight, and end."""
        self.should_exit = True
        await self._task


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        port: 0 for a free one.
        shared: other processes of this user may listen on it too, as a gateway that takes over does.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    # Connections inherit it. Without, an answer's second piece waits 40 ms for a client's delayed ACK; uvloop
    # sets it for each connection, asyncio's own loop does not for a socket made like this.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
