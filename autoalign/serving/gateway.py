"""The Ray Serve deployment that listens on the public port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
from ray import serve

from autoalign.config.serve import ServeConfig
from autoalign.serving import registry
from autoalign.serving.app import Parts, build_app
from autoalign.serving.engines import ServeEngines
from autoalign.serving.forwarding import Forwarder
from autoalign.serving.http_server import HttpServer, bind
from autoalign.serving.metrics import Metrics
from autoalign.serving.placement import Refusal
from autoalign.serving.serve_launcher import ENGINE
from autoalign.serving.visibility import Visibility

if TYPE_CHECKING:
    from autoalign.jobs.settings import Settings

_IDLE = 60.0  # seconds that an unused connection to an engine is kept
_LOOK_AGAIN = 1.0


class Gateway:
    """One listener. Several, on one node or on many, share nothing but the fleet.

    Args:
        fleet: Ray Serve handle of the fleet.
        where: the platform's settings; None where there are neither tokens nor jobs.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self,
        config: ServeConfig,
        fleet: Any,
        where: Settings | None,
    ) -> None:
        logging.getLogger("autoalign.serving").setLevel(logging.INFO)
        self._config, self._fleet = config, fleet
        self._ready = config.default_model is None
        self._handles: dict[str, Any] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
        )
        metrics = Metrics()
        self._engines = engines = ServeEngines(
            fleet.place.remote, self._engine_handle, self._session, metrics
        )
        visibility = Visibility(
            registry.NoRegistry() if where is None else registry.open_registry(where), fleet.models.remote
        )
        app = build_app(
            Parts(
                config=config,
                forwarder=Forwarder(
                    engines, self._session, metrics, visibility.may_use, config.default_model
                ),
                visibility=visibility,
                metrics=metrics,
                ready=self._is_ready,
                book=registry.open_book(where) if config.require_tokens and where is not None else None,
                routers=_routers(config, where, metrics),
            )
        )
        self._server = HttpServer(app, bind(config.host, config.port, shared=True))
        self._loading = asyncio.get_running_loop().create_task(self._load_default())

    async def problem(self) -> str | None:
        """Why the model that is loaded at once is not there; None once it is, and while it is coming."""
        return self._problem

    async def ready(self) -> bool:
        """Whether that model answers."""
        return self._ready

    async def __del__(self) -> None:
        if hasattr(self, "_server"):
            self._loading.cancel()
            await self._server.close()
            await self._engines.close()
            await self._session.close()

    _problem: str | None = None

    async def _is_ready(self) -> bool:
        return self._ready

    async def _load_default(self) -> None:
        while not self._ready:
            answer = await self._fleet.place.remote(self._config.default_model)
            self._ready = not isinstance(answer, Refusal)
            self._problem = answer.message if isinstance(answer, Refusal) else None
            await asyncio.sleep(_LOOK_AGAIN)

    def _engine_handle(self, app_name: str) -> Any:
        if app_name not in self._handles:
            handle: Any = serve.get_deployment_handle(ENGINE, app_name)
            self._handles[app_name] = handle.options(stream=True)
        return self._handles[app_name]


def _routers(config: ServeConfig, where: Settings | None, metrics: Metrics) -> Sequence[Any]:
    """The routes of jobs; their watcher looks after them from now on."""
    if not config.jobs or where is None:
        return ()
    from autoalign.serving.platform_routes import job_counts, platform_routers, start_platform

    platform = start_platform(where, config.ray_jobs_address)
    metrics.watch_jobs(job_counts(platform))
    return platform_routers(platform)
