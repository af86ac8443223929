"""Which engines run: loaded when asked for, replaced when their folder changes, put away when unused."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
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
ADOPT = 60.0  # seconds that an engine of an earlier fleet is kept for a request to it
_LOOK_AGAIN = 0.2  # seconds
log = logging.getLogger("autoalign.serving")


class NoRoom(JobFailed):
    """The cluster lacks what an engine takes; the message is for clients too."""


class Launcher(Protocol):
    """Starts and ends the applications that run engines."""

    async def start(self, spec: EngineSpec) -> None:
        """Return once it answers.

        Raises:
            NoRoom: it waits for a resource, and has for as long as a request may.
            JobFailed: it never will.
        """

    async def stop(self, app_name: str) -> None:
        """Let the requests in flight finish, and free what it holds; returns at once."""

    async def present(self) -> set[str]:
        """The applications of engines that are there and are not ending, whoever has started them."""

    async def missing(self, spec: EngineSpec) -> str | None:
        """Which resource is not free for the engine now; None where it fits."""

    async def is_ending(self) -> bool:
        """Whether an engine is about to free what it holds."""


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
        adopt: float = ADOPT,
    ) -> None:
        self._config, self._catalogue, self._launcher = config, catalogue, launcher
        self._use_gpu, self._linger, self._adopt = use_gpu, linger, adopt
        self._loaded: dict[str, _Loaded] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, BaseException]] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._lingering: set[str] = set()  # applications
        self._making_room = asyncio.Lock()
        self._coming: dict[str, str] = {}  # application to model: there is room for it
        self._left: set[str] = set()

    async def take_over(self) -> None:
        """Look for the engines of an earlier fleet: those that are asked for soon go on, the others end."""
        self._left = await self._launcher.present()
        if self._left:
            log.info("%d engines are there already", len(self._left))
            self._do_later(self._adopt, self._end_left)

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
        now = self._loaded.get(base.id)
        if now is None:
            return Refusal(503, f"'{name}' made room for another model; try again.", None, 1)
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
            return _load_failed(spec, error)
        return None

    def _failure(self, spec: EngineSpec) -> BaseException | None:
        """Why this state of the folder failed to load, a short while ago."""
        failed = self._failed.get(spec.digest)
        return failed[1] if failed is not None and time.monotonic() - failed[0] < _FORGIVE else None

    def _start(self, spec: EngineSpec) -> asyncio.Task[None]:
        """The task that brings the engine up; one for each."""
        task = self._starting.get(spec.app_name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._bring_up(spec))
            self._starting[spec.app_name] = task
            task.add_done_callback(lambda done: self._started(spec, done))
        return task

    async def _bring_up(self, spec: EngineSpec) -> None:
        async with self._making_room:
            await self._make_room(spec)
            self._coming[spec.app_name] = spec.model
        try:
            await self._launcher.start(spec)
            old = self._loaded.get(spec.model)
            self._loaded[spec.model] = _Loaded(spec)
        finally:
            del self._coming[spec.app_name]
        if old is not None:
            self._end_later(old.spec.app_name)

    def _started(self, spec: EngineSpec, task: asyncio.Task[None]) -> None:
        self._starting.pop(spec.app_name, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed[spec.digest] = (time.monotonic(), error)
            log.error("engine of %s failed to start: %s", spec.model, error)

    async def _make_room(self, spec: EngineSpec) -> None:
        """Put away engines until one more fits: into `max_loaded_models`, and into the cluster.

        Where nothing is left to put away the engine is started all the same: the cluster may grow.
        """
        while self._is_one_too_many(spec.model):
            if self._loaded:
                await self._launcher.stop(self._longest_unused(spec.model))
            else:
                await asyncio.sleep(_LOOK_AGAIN)  # one that is coming up can be put away then
        if spec.app_name in self._left:
            self._left.discard(spec.app_name)
            return
        while (missing := await self._launcher.missing(spec)) is not None:
            if self._coming or self._lingering or await self._launcher.is_ending():
                await asyncio.sleep(_LOOK_AGAIN)  # what is free is known only then
            elif self._left:
                await self._launcher.stop(self._left.pop())
            elif self._loaded:
                log.info("an engine is put away for %s: %s", spec.model, missing)
                await self._launcher.stop(self._longest_unused(spec.model))
            else:
                return

    def _is_one_too_many(self, model: str) -> bool:
        """Whether a model would be more than may be in memory. A replacement is not one more."""
        others = {*self._loaded, *self._coming.values()} - {model}
        return model not in self._loaded and len(others) >= self._config.max_loaded_models

    def _longest_unused(self, wanted: str) -> str:
        """The application to put away; that of the wanted model, which is replaced, comes last."""
        names = [name for name in self._loaded if name != wanted] or [wanted]
        oldest = min(names, key=lambda each: self._loaded[each].used)
        return self._loaded.pop(oldest).spec.app_name

    def _end_later(self, app_name: str) -> None:
        async def end() -> None:
            self._lingering.discard(app_name)
            names = {*self._starting, *(loaded.spec.app_name for loaded in self._loaded.values())}
            if app_name not in names:  # a rollback may want it again
                await self._launcher.stop(app_name)

        self._lingering.add(app_name)
        self._do_later(self._linger, end)

    async def _end_left(self) -> None:
        while self._left:
            await self._launcher.stop(self._left.pop())

    def _do_later(self, seconds: float, do: Callable[[], Awaitable[None]]) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            await do()

        task = asyncio.get_running_loop().create_task(later())
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def _load_failed(spec: EngineSpec, reason: BaseException) -> Refusal:
    log.warning("'%s' is not served: %s", spec.model, reason)
    if isinstance(reason, NoRoom):
        return Refusal(503, str(reason), None, 30)
    return Refusal(503, f"The model '{spec.model}' can't be loaded; the server's log says why.", None, 30)
