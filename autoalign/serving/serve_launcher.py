"""Engines and the gateway as Ray Serve applications."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve

from autoalign.config.serve import ServeConfig
from autoalign.errors import JobFailed
from autoalign.serving.replica import EngineReplica
from autoalign.serving.spec import EngineSpec

ENGINE = "Engine"
_DRAIN = 600.0  # seconds that an engine that is put away gets for its requests in flight

# User code and routing on the actor's one loop (uvloop): each hop to another thread costs a
# request, and each token, a wake-up.
ONE_LOOP = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
QUIET = {"enable_access_log": False}


class ServeLauncher:
    """One application an engine."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config

    async def start(self, spec: EngineSpec) -> None:
        """Deploy the engine; Ray Serve starts its replicas. One that runs already is left as it is.

        Raises:
            JobFailed: no replica comes up; the application is taken away again.
        """
        if await asyncio.to_thread(_is_running, spec.app_name):
            return  # the fleet itself was restarted
        app = engine_application(self._config, spec)
        try:
            await asyncio.to_thread(serve.run, app, name=spec.app_name, route_prefix=None)
        except RuntimeError as error:
            await self.stop(spec.app_name)
            raise JobFailed(str(error)) from error

    async def stop(self, app_name: str) -> None:
        """Ray Serve lets the leases run out first."""
        await asyncio.to_thread(serve.delete, app_name, _blocking=False)


def _is_running(app_name: str) -> bool:
    found = serve.status().applications.get(app_name)
    return found is not None and found.status == "RUNNING"


def engine_application(config: ServeConfig, spec: EngineSpec) -> Any:
    """The Ray Serve application of one engine."""
    options: dict[str, Any] = {
        "name": ENGINE,
        "max_ongoing_requests": config.max_in_flight,
        "max_queued_requests": config.max_queued,
        "graceful_shutdown_timeout_s": _DRAIN,
        "graceful_shutdown_wait_loop_s": 1.0,
        "health_check_period_s": 5.0,
        "logging_config": QUIET,
        "ray_actor_options": {
            "num_cpus": config.cpus_per_replica,
            "num_gpus": config.tensor_parallel_size if spec.use_gpu else 0,
            "runtime_env": {"env_vars": ONE_LOOP},
        },
    }
    if config.max_replicas > config.min_replicas:
        options["autoscaling_config"] = {
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.target_in_flight,
        }
    else:
        options["num_replicas"] = config.min_replicas
    return serve.deployment(EngineReplica).options(**options).bind(spec)  # type: ignore[attr-defined]
