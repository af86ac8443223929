"""The Ray Serve deployment that listens on the public port."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
from ray import serve
from ray.exceptions import RayError
from starlette.exceptions import HTTPException

from autoalign.config.serve import ServeConfig
from autoalign.serving import registry
from autoalign.serving.app import Parts, build_app
from autoalign.serving.catalogue import Catalogue, Served, catalogue_of
from autoalign.serving.engines import ServeEngines
from autoalign.serving.forwarding import Forwarder
from autoalign.serving.http_server import HttpServer, bind
from autoalign.serving.lease_pool import LONGEST
from autoalign.serving.metrics import Metrics
from autoalign.serving.placement import Refusal
from autoalign.serving.serve_launcher import ENGINE
from autoalign.serving.serve_log import join_serve_log
from autoalign.serving.visibility import Visibility

if TYPE_CHECKING:
    from autoalign.jobs.settings import Settings
    from autoalign.serving.platform_routes import LivePlatform

_IDLE = 60.0  # seconds that an unused connection to an engine is kept
_LOOK_AGAIN = 1.0
log = logging.getLogger("autoalign.serving")


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
        join_serve_log()
        self._config, self._fleet = config, fleet
        self._ready = config.default_model is None
        self._handles: dict[str, Any] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
        )
        metrics = Metrics()
        own = catalogue_of(config, None, ())
        self._live = _live_platform(config, where, own)
        self._engines = engines = ServeEngines(
            fleet.place.remote,
            self._engine_handle,
            self._session,
            metrics,
            _longest_lease(config),
            _most_waiting(config),
        )
        visibility = Visibility(
            registry.NoRegistry() if where is None else registry.open_registry(where), self._everybodys_models
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
                routers=_routers(self._live, metrics, own),
            )
        )
        self._server = HttpServer(app, bind(config.host, config.port, shared=True))
        self._loading = asyncio.get_running_loop().create_task(self._load_default())
        # All that is there by now stays: looking through it again and again would hold requests up.
        gc.collect()
        gc.freeze()

    async def problem(self) -> str | None:
        """Why the model that is loaded at once is not there; None once it is, and while it is coming."""
        return self._problem

    async def ready(self) -> bool:
        """Whether that model answers."""
        return self._ready

    async def stop_jobs(self) -> int:
        """End this machine's jobs, so that the next platform goes on with them; how many there were."""
        return 0 if self._live is None else await asyncio.to_thread(self._live.stop_jobs)

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
            try:
                answer = await self._fleet.place.remote(self._config.default_model)
                self._ready = not isinstance(answer, Refusal)
                problem = answer.message if isinstance(answer, Refusal) else None
                if problem not in (None, self._problem):
                    log.error("%s is not ready: %s", self._config.default_model, problem)
                self._problem = problem
            except RayError as error:  # Ray Serve starts the fleet anew
                log.warning("the fleet does not answer: %s", error)
            await asyncio.sleep(_LOOK_AGAIN)

    async def _everybodys_models(self) -> list[Served]:
        try:
            models: list[Served] = await self._fleet.models.remote()
        except RayError:
            message = "The list of models is being restarted; try again."
            raise HTTPException(503, message, {"Retry-After": "1"}) from None
        return models

    def _engine_handle(self, app_name: str) -> Any:
        if app_name not in self._handles:
            handle: Any = serve.get_deployment_handle(ENGINE, app_name)
            self._handles[app_name] = handle.options(stream=True)
        return self._handles[app_name]


def _longest_lease(config: ServeConfig) -> float:
    """Seconds; a model that has one engine at most needs no spreading of requests."""
    return LONGEST if config.max_replicas > 1 else math.inf


def _most_waiting(config: ServeConfig) -> int:
    """Requests for a model that is being found or loaded: as many as its engines may take."""
    return config.max_in_flight * config.max_replicas + config.max_queued


def _live_platform(config: ServeConfig, where: Settings | None, own: Catalogue) -> LivePlatform | None:
    """The platform of an endpoint with jobs; they are looked after from now on."""
    if not config.jobs or where is None:
        return None
    from autoalign.serving.platform_routes import start_platform

    return start_platform(where, own.base_folder, config.ray_jobs_address)


def _routers(live: LivePlatform | None, metrics: Metrics, own: Catalogue) -> Sequence[Any]:
    """The routes of jobs."""
    if live is None:
        return ()
    from autoalign.serving.platform_routes import job_counts, platform_routers

    metrics.watch_jobs(job_counts(live.platform))
    return platform_routers(live.platform, own.template_of)
