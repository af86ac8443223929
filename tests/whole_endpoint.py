"""The endpoint's whole application on a real socket, with a fake replica behind it and no Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from autoalign.config.serve import ServeConfig
from autoalign.jobs.platform import Platform
from autoalign.serving.app import Parts, build_app
from autoalign.serving.catalogue import Served
from autoalign.serving.engines import Refused
from autoalign.serving.forwarding import Forwarder
from autoalign.serving.http_server import HttpServer, bind
from autoalign.serving.leases import Grant, LeasedOnly, Leases
from autoalign.serving.metrics import Metrics
from autoalign.serving.placement import unknown_model
from autoalign.serving.platform_routes import job_counts, platform_routers
from autoalign.serving.served.fake import FakeServed
from autoalign.serving.spec import EngineSpec
from autoalign.serving.visibility import Visibility

MODEL = "base"
SPEC = EngineSpec("fake", MODEL, ".", "0" * 16, None, False, False, False, ())


def parts(platform: Any, forwarder: Any = None) -> Parts:
    """What the gateway puts together; without a platform it is good for the document alone."""
    metrics = Metrics()
    if platform is not None:
        metrics.watch_jobs(job_counts(platform))
    return Parts(
        config=ServeConfig.build({"model_roots": ["models"]}),
        forwarder=forwarder,
        visibility=Visibility(getattr(platform, "models", None), _listed),  # type: ignore[arg-type]
        metrics=metrics,
        ready=_is_ready,
        book=getattr(platform, "tokens", None),
        routers=platform_routers(platform),
    )


@contextmanager
def whole_endpoint(platform: Platform, closed: bool = True) -> Iterator[str]:
    """Its URL. It runs in a loop of its own, as in the gateway's process.

    Args:
        closed: whether a token is needed.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    running = do(_started(platform, closed))
    try:
        yield running.front.url
    finally:
        do(running.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@dataclass(frozen=True)
class _Running:
    front: HttpServer
    replica: HttpServer
    session: aiohttp.ClientSession

    async def close(self) -> None:
        await self.session.close()
        await self.front.close()
        await self.replica.close()


async def _started(platform: Platform, closed: bool) -> _Running:
    engine, session = _OneEngine(), aiohttp.ClientSession()
    whole = parts(platform)
    whole = whole if closed else replace(whole, book=None)
    forwarder = Forwarder(engine, session, whole.metrics, whole.visibility.may_use, MODEL)
    front = HttpServer(build_app(replace(whole, forwarder=forwarder)), bind("127.0.0.1", 0))
    return _Running(front, engine.server, session)


class _OneEngine:
    """Leases of one fake engine."""

    def __init__(self) -> None:
        self._leases = Leases()
        self.server = HttpServer(LeasedOnly(FakeServed(SPEC, {}).app, self._leases), bind("127.0.0.1", 0))

    @asynccontextmanager
    async def lease(self, model: str) -> AsyncIterator[Grant]:
        if model != MODEL:
            raise Refused(unknown_model(model))
        lease = self._leases.new()
        try:
            yield Grant(url=self.server.url, lease=lease.id, model=model)
        finally:
            self._leases.end(lease)


async def _is_ready() -> bool:
    return True


async def _listed() -> list[Served]:
    return [Served(MODEL, Path(), "", 0)]
