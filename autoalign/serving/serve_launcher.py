"""Engines and the gateway as Ray Serve applications."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve

from autoalign.config.serve import ServeConfig
from autoalign.errors import JobFailed
from autoalign.serving.fleet import NoRoom
from autoalign.serving.replica import EngineReplica
from autoalign.serving.spec import EngineSpec, is_engine

ENGINE = "Engine"
_DRAIN = 600.0  # seconds that an engine that is put away gets for its requests in flight
_LOOK_EVERY = 0.2
_SETTLE = 2.0
_UNSCHEDULED = "to be scheduled"  # Ray Serve, of a replica that no node has had room for in 30 seconds

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
        self._ended = -_SETTLE  # when an engine was last seen ending

    async def start(self, spec: EngineSpec) -> None:
        """Deploy the engine; Ray Serve starts its replicas. One that runs already is left as it is.

        No thread waits for it: they are few, and requests for what runs need them.

        Raises:
            NoRoom: no node has had what it takes for `load_timeout`; the application is taken away again.
            JobFailed: no replica comes up; likewise.
        """
        status, _ = await _look(spec.app_name)
        if status == "RUNNING":
            return  # the fleet itself was restarted
        app = engine_application(self._config, spec)
        target = serve.RunTarget(app, name=spec.app_name, route_prefix=None)
        try:
            await asyncio.to_thread(serve.run_many, [target], wait_for_applications_running=False)
            await self._wait(spec)
        except (RuntimeError, JobFailed) as error:
            await self.stop(spec.app_name)
            raise error if isinstance(error, JobFailed) else JobFailed(str(error)) from error

    async def _wait(self, spec: EngineSpec) -> None:
        late = time.monotonic() + self._config.load_timeout
        while True:
            status, message = await _look(spec.app_name)
            if status == "RUNNING":
                return
            if status not in ("DEPLOYING", "UNHEALTHY"):
                raise JobFailed(message or f"its application is {status}")
            if time.monotonic() > late and _UNSCHEDULED in message:
                short = await self.missing(spec) or "no node has enough"
                raise NoRoom(f"The cluster has no room for '{spec.model}': {short}.")
            await asyncio.sleep(_LOOK_EVERY)

    async def stop(self, app_name: str) -> None:
        """Ray Serve lets the leases run out first."""
        await asyncio.to_thread(serve.delete, app_name, _blocking=False)

    async def present(self) -> set[str]:
        """Engines of every state but of those that are ending."""
        return {name for name, app in (await _engines()).items() if app.status != "DELETING"}

    async def missing(self, spec: EngineSpec) -> str | None:
        """By the sums over the cluster's nodes: Ray tells no more without asking each of them."""
        free, there = await asyncio.to_thread(lambda: (ray.available_resources(), ray.cluster_resources()))
        return missing(needs(self._config, spec), free, there)

    async def is_ending(self) -> bool:
        """A moment longer than Ray Serve says so: what has been freed is told a little later."""
        now = time.monotonic()
        if any(app.status == "DELETING" for app in (await _engines()).values()):
            self._ended = now
        return now - self._ended < _SETTLE


async def _look(app_name: str) -> tuple[str, str]:
    """(state of an application, what Ray Serve says about it and its engines)."""
    app = (await asyncio.to_thread(serve.status)).applications.get(app_name)
    if app is None:
        return "NOT_STARTED", ""
    return str(app.status.value), " ".join([app.message, *(d.message for d in app.deployments.values())])


async def _engines() -> dict[str, Any]:
    """The engines' applications by name; others of the cluster are nobody's to end."""
    apps = (await asyncio.to_thread(serve.status)).applications
    return {name: app for name, app in apps.items() if is_engine(name)}


def needs(config: ServeConfig, spec: EngineSpec) -> dict[str, float]:
    """What the engines of a model take in Ray, at least."""
    gpus = config.tensor_parallel_size if spec.use_gpu else 0
    return {"GPU": gpus * config.min_replicas, "CPU": config.cpus_per_replica * config.min_replicas}


def missing(wanted: Mapping[str, float], free: Mapping[str, float], there: Mapping[str, float]) -> str | None:
    """What is wanted and not free; None where all of it is."""
    short = [
        f"{amount:g} {name} needed, {free.get(name, 0.0):g} free of {there.get(name, 0.0):g}"
        for name, amount in wanted.items()
        if free.get(name, 0.0) < amount
    ]
    return "; ".join(short) or None


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
