"""What answers prompts while the policy trains: an engine of `sampling.engines` that stays up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from autoalign.sampling.engines.base import (
    Completion,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
    UpdatableEngine,
    create_engine,
)

_TRIES = 2
ResultT = TypeVar("ResultT")


class Sampler(Protocol):
    """An engine as the rollouts see it; tests put a fake here."""

    def answer(self, requests: Sequence[GenerationRequest]) -> list[Completion | None]:
        """All answers, in order; None where a request failed.

        Raises:
            EngineDead: nothing can be answered any more.
        """
        ...

    def load_weights(self, folder: Path) -> None:
        """Answer with the weights of this model folder from now on."""
        ...

    def sleep(self, level: int) -> None:
        """Leave the GPU to the trainer."""
        ...

    def wake_up(self) -> None:
        """Take it back; weights have to be loaded next."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class EngineThread:
    """An engine on an event loop in a thread of its own, for a caller that waits.

    Raises:
        MissingDependency: the engine's library is not installed.
        JobFailed: the engine can't start.
    """

    def __init__(self, backend: str, options: EngineOptions) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollout-engine", daemon=True)
        self._thread.start()
        try:
            self._engine = cast(UpdatableEngine, self._wait(create_engine(backend, options)))
        except BaseException:  # whatever it is goes on up, once the thread has ended
            self._end_thread()
            raise

    def answer(self, requests: Sequence[GenerationRequest]) -> list[Completion | None]:
        """As in `Sampler`; all of them are in flight at once."""
        return self._wait(self._answer_all(requests))

    def load_weights(self, folder: Path) -> None:
        """As in `Sampler`."""
        self._wait(self._engine.load_weights(folder))

    def sleep(self, level: int) -> None:
        """As in `Sampler`."""
        self._wait(self._engine.sleep(level))

    def wake_up(self) -> None:
        """As in `Sampler`."""
        self._wait(self._engine.wake_up())

    def close(self) -> None:
        """As in `Sampler`."""
        try:
            self._wait(self._engine.close())
        finally:
            self._end_thread()

    async def _answer_all(self, requests: Sequence[GenerationRequest]) -> list[Completion | None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._answer(request)) for request in requests]
        return [task.result() for task in tasks]

    async def _answer(self, request: GenerationRequest) -> Completion | None:
        for _ in range(_TRIES):
            try:
                return await self._engine.generate(request)
            except RequestFailed as failed:
                if not failed.retry:
                    break
        return None

    def _wait(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except BaseExceptionGroup as failed:  # a dead engine fails every request alike
            raise failed.exceptions[0] from None

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
