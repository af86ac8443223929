"""The Ray Serve application of an endpoint: a fleet, and gateways in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import serve

from autoalign.config.serve import ServeConfig
from autoalign.serving import registry
from autoalign.serving.catalogue import Served, catalogue_of
from autoalign.serving.fleet import Fleet
from autoalign.serving.gateway import Gateway
from autoalign.serving.placement import Placement, Refusal
from autoalign.serving.serve_launcher import ONE_LOOP, QUIET, ServeLauncher
from autoalign.serving.serve_log import join_serve_log

if TYPE_CHECKING:
    from autoalign.jobs.settings import Settings

NAME = "autoalign"
GATEWAY = "Gateway"
_DRAIN = 600.0  # seconds that a gateway that is replaced gets for its requests


class FleetHost:
    """The one replica that knows which engines run."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, config: ServeConfig, use_gpu: bool, where: Settings | None
    ) -> None:
        join_serve_log()
        known = None if where is None else registry.open_registry(where)
        roots = [] if where is None else [where.home, *where.roots]
        catalogue = catalogue_of(config, known, roots)
        self._fleet = Fleet(config, catalogue, ServeLauncher(config), use_gpu)
        await self._fleet.take_over()

    async def place(self, name: str) -> Placement | Refusal:
        """The engine for a model, started if need be."""
        return await self._fleet.place(name)

    async def models(self) -> list[Served]:
        """Every model that can be asked for."""
        return await self._fleet.models()


def application(config: ServeConfig, use_gpu: bool, gateways: int = 1) -> Any:
    """What `serve.run` takes.

    Args:
        gateways: listeners, one a node at most; a load balancer stands before more than one.

    Raises:
        MissingDependency: tokens or jobs are asked for, and SQLAlchemy is not installed.
    """
    where = registry.settings() if config.require_tokens or config.jobs else None
    small: dict[str, Any] = {"num_cpus": 0, "runtime_env": {"env_vars": ONE_LOOP}}
    common: dict[str, Any] = {"logging_config": QUIET, "ray_actor_options": small}
    fleet = serve.deployment(FleetHost).options(  # type: ignore[attr-defined]
        name="Fleet", max_ongoing_requests=10_000, **common
    )
    gateway = serve.deployment(Gateway).options(  # type: ignore[attr-defined]
        name=GATEWAY,
        num_replicas=gateways,
        max_replicas_per_node=1,
        graceful_shutdown_timeout_s=_DRAIN,
        graceful_shutdown_wait_loop_s=1.0,
        **common,
    )
    return gateway.bind(config, fleet.bind(config, use_gpu, where), where)
