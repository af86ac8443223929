"""Which engines run: loaded when asked for, replaced when their folder changes, put away when unused."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

from autoalign.config.serve import ServeConfig
from autoalign.errors import JobFailed
from autoalign.serving.catalogue import Catalogue, Served
from autoalign.serving.placement import Adapter, Placement, Refusal, unknown_model
from autoalign.serving.registry import RegistryUnavailable
from autoalign.serving.spec import EngineSpec, engine_spec

LINGER = 3.0  # seconds that an engine outlives its replacement: gateways remember a placement for one
_FORGIVE = 30.0  # seconds after which a folder that failed to load is tried again
log = logging.getLogger("autoalign.serving")


class Launcher(Protocol):
    """Starts and ends the applications that run engines."""

    async def start(self, spec: EngineSpec) -> None:
        """Return once it answers.

        Raises:
            JobFailed: it never will.
        """

    async def stop(self, app_name: str) -> None:
        """Let the requests in flight finish, and free what it holds."""


@dataclass
class _Loaded:
    spec: EngineSpec
    used: float = field(default_factory=time.monotonic)


class Fleet:
    """The engines of one endpoint.

    A model whose folder has changed goes on being answered by its old engine until the new one is
    ready, so that no request waits for, or is lost to, the change.
    """

    def __init__(
        self,
        config: ServeConfig,
        catalogue: Catalogue,
        launcher: Launcher,
        use_gpu: bool,
        linger: float = LINGER,
    ) -> None:
        self._config, self._catalogue, self._launcher = config, catalogue, launcher
        self._use_gpu, self._linger = use_gpu, linger
        self._loaded: dict[str, _Loaded] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def place(self, name: str) -> Placement | Refusal:
        """The engine for a model, started if need be."""
        try:
            wanted = await asyncio.to_thread(self._look_up, name)
        except RegistryUnavailable as error:
            return self._while_unknown(name, error)
        if isinstance(wanted, Refusal):
            return wanted
        served, base, lora = wanted
        loaded = self._loaded.get(base.id)
        spec = engine_spec(
            self._config, base, lora or (loaded is not None and loaded.spec.lora), self._use_gpu
        )
        if loaded is None or (served is not base and not loaded.spec.lora):
            refusal = await self._wait_for(spec)
            if refusal is not None:
                return refusal
        elif loaded.spec.digest != spec.digest and self._failure(spec) is None:
            self._start(spec)
        now = self._loaded[base.id]
        now.used = time.monotonic()
        adapter = None if served is base else Adapter(served.id, str(served.folder), served.digest)
        return Placement(now.spec.app_name, adapter)

    async def models(self) -> list[Served]:
        """Every model that can be asked for."""
        return await asyncio.to_thread(self._catalogue.all)

    def _look_up(self, name: str) -> tuple[Served, Served, bool] | Refusal:
        """(what was asked for, the base model it runs on, whether adapters of that are there)."""
        served = self._catalogue.find(name)
        if served is None:
            return unknown_model(name)
        base = served if served.base is None else self._catalogue.base_of(served)
        if base is None:
            message = f"'{name}' is an adapter of {served.base}, which is not served here."
            return Refusal(404, message, "model_not_found")
        return served, base, served is not base or self._catalogue.has_adapters(base)

    def _while_unknown(self, name: str, error: RegistryUnavailable) -> Placement | Refusal:
        """What is loaded goes on answering while the database is away."""
        loaded = self._loaded.get(name)
        return Refusal(503, str(error), None, 5) if loaded is None else Placement(loaded.spec.app_name)

    async def _wait_for(self, spec: EngineSpec) -> Refusal | None:
        reason = self._failure(spec)
        if reason is not None:
            return _load_failed(spec, reason)
        try:
            await asyncio.wait_for(asyncio.shield(self._start(spec)), self._config.load_timeout)
        except TimeoutError:
            return Refusal(503, f"'{spec.model}' is still being loaded; try again later.", None, 10)
        except JobFailed as error:
            return _load_failed(spec, str(error))
        return None

    def _failure(self, spec: EngineSpec) -> str | None:
        """Why this state of the folder failed to load, a short while ago."""
        since, reason = self._failed.get(spec.digest, (0.0, ""))
        return reason if reason and time.monotonic() - since < _FORGIVE else None

    def _start(self, spec: EngineSpec) -> asyncio.Task[None]:
        """The task that brings the engine up; one for each."""
        task = self._starting.get(spec.app_name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._bring_up(spec))
            self._starting[spec.app_name] = task
            task.add_done_callback(lambda done: self._started(spec, done))
        return task

    async def _bring_up(self, spec: EngineSpec) -> None:
        await self._make_room(spec.model)
        await self._launcher.start(spec)
        old = self._loaded.get(spec.model)
        self._loaded[spec.model] = _Loaded(spec)
        if old is not None:
            self._end_later(old.spec.app_name)

    def _started(self, spec: EngineSpec, task: asyncio.Task[None]) -> None:
        self._starting.pop(spec.app_name, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed[spec.digest] = (time.monotonic(), str(error))
            log.error("engine of %s failed to start: %s", spec.model, error)

    async def _make_room(self, model: str) -> None:
        """Put away the engines longest unused, until one more fits. A replacement is not one more."""
        while model not in self._loaded and len(self._loaded) >= self._config.max_loaded_models:
            oldest = min(self._loaded, key=lambda each: self._loaded[each].used)
            await self._launcher.stop(self._loaded.pop(oldest).spec.app_name)

    def _end_later(self, app_name: str) -> None:
        async def end() -> None:
            await asyncio.sleep(self._linger)
            await self._launcher.stop(app_name)

        task = asyncio.get_running_loop().create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _load_failed(spec: EngineSpec, reason: str) -> Refusal:
    log.warning("'%s' is not served: %s", spec.model, reason)
    return Refusal(503, f"The model '{spec.model}' can't be loaded; the server's log says why.", None, 30)
