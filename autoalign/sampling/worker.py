"""An engine and the loop that keeps many requests in flight: Ray Data's actor, or this process's own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from autoalign.errors import AutoAlignError
from autoalign.sampling.engines.base import (
    Completion,
    Engine,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
    SamplingParams,
    create_engine,
    derive_seed,
)
from autoalign.sampling.mailbox import Mailbox
from autoalign.sampling.messages import Answer as Answer  # rows and keys know it from here
from autoalign.sampling.messages import Message, Task, pack, unpack_task
from autoalign.sampling.metrics import EngineMetrics
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.turns import Dialogue, Place, Turns, joined

if TYPE_CHECKING:
    import pyarrow as pa

_TRIES = 2


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What an actor is made from. `seed` is the job's; each answer's own is derived from it.

    `sweep`: the parameters of each way to answer, where there are several (`Prompt.variant`).
    `turns`: where an answer is a whole conversation.
    """

    backend: str
    options: EngineOptions
    params: SamplingParams
    seed: int
    sweep: tuple[SamplingParams, ...] = ()
    turns: Turns | None = None

    def params_of(self, prompt: Prompt) -> SamplingParams:
        """The parameters that this prompt is answered with."""
        return self.params if prompt.variant is None else self.sweep[prompt.variant]


class Started(NamedTuple):
    """The engine, the one that plays the user (the same, unless it has a model of its own), and when."""

    engine: Engine
    user_engine: Engine
    ready: float


class EngineWorker:
    """Takes tables of tasks, gives answers as they finish.

    `__call__` is a plain generator that Ray runs in several threads, not an async one:
    Ray Data collects all that an async generator yields before it passes anything on.

    Args:
        arrive: called at once, when it has its place in the cluster; the engine has yet to start.
    """

    def __init__(self, spec: WorkerSpec, arrive: Callable[[], None] | None = None) -> None:
        if arrive is not None:
            arrive()
        self._spec = spec
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._metrics = EngineMetrics(Path(spec.options.model).name, self.name)
        self._in_flight = 0
        self._asked: set[asyncio.Task[None]] = set()  # a loop holds its tasks by weak references
        self._started: Started
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        # Errors of the start surface in the first call, as themselves; Ray wraps those of a constructor.
        self._engine: Future[Started] = asyncio.run_coroutine_threadsafe(self._start(), self._loop)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """`table` has tasks in its column `task` (`messages.pack_task`).

        Yields tables of one row with the column `message` (`messages.pack`): what finished since the
        last one, then that the task is finished. A message may name an error that ends the job. It is
        not raised, because Ray Data would print its own and our stack on the user's terminal.
        """
        try:
            for raw in table["task"].to_pylist():
                yield from map(_one_row, self._messages(unpack_task(raw)))
        except Exception as error:  # the boundary of the process
            yield _one_row(_failure(error))

    def wait_until_ready(self) -> None:
        """Until the engine is there; raises what it raised where it can't start."""
        self._engine.result()

    def mailbox(self) -> Mailbox:
        """For the answers of `submit`."""
        return Mailbox(self._loop)

    def submit(self, wanted: Sequence[tuple[Prompt, int]], box: Mailbox) -> None:
        """Ask for answers, outside of Ray; `box` gets each, or the error that ends the engine."""

        async def one(prompt: Prompt, index: int) -> None:
            try:
                box.put(await self._answer(prompt, index))
            except Exception as error:  # the boundary of the engine
                box.fail(error)

        def begin() -> None:
            box.expect(len(wanted))
            for prompt, index in wanted:
                task = self._loop.create_task(one(prompt, index))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)

        self._loop.call_soon_threadsafe(begin)

    def close(self) -> None:
        """End the engine; what is in flight is given up."""
        if not self._engine.cancel():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._engine.exception() is None:
            engine, user_engine, _ = self._engine.result()
            await engine.close()
            if user_engine is not engine:
                await user_engine.close()

    def _messages(self, task: Task) -> Iterator[Message]:
        self._engine.result()
        box = Mailbox(self._loop)
        asyncio.run_coroutine_threadsafe(self._answer_all(task, box), self._loop)
        for answers, is_last in box:
            self._metrics.record(answers, self._in_flight)
            yield Message(answers, task.number if is_last else None, None, self.name, self._in_flight)

    async def _start(self) -> Started:
        user_engine = engine = await create_engine(self._spec.backend, self._spec.options)
        user = self._spec.turns.user if self._spec.turns else None
        if user is not None and user.backend is not None and user.options is not None:
            here = self._spec.options
            options = replace(user.options, use_gpu=here.use_gpu, threads=here.threads)
            user_engine = await create_engine(user.backend, options)
        self._started = Started(engine, user_engine, time.time())
        return self._started

    async def _answer_all(self, task: Task, box: Mailbox) -> None:
        async def one(prompt: Prompt, index: int) -> None:
            try:
                box.put(await self._answer(prompt, index))
            finally:
                self._in_flight -= 1

        # All in the engine's loop, so one thread alone counts.
        self._in_flight += sum(len(wanted) for _, wanted in task.prompts)
        try:
            async with asyncio.TaskGroup() as group:
                for prompt, wanted in task.prompts:
                    for index in wanted:
                        group.create_task(one(prompt, index))
        except Exception as error:  # told by the thread that waits
            box.fail(error)
        else:
            box.end()

    async def _answer(self, prompt: Prompt, index: int) -> Answer:
        ready = self._started.ready
        seed = derive_seed(self._spec.seed, prompt.id, index)
        error = ""
        params = self._spec.params_of(prompt)
        name = f"{prompt.key}-{index}"
        for _ in range(_TRIES):
            request = GenerationRequest(name, prompt.messages, prompt.token_ids, params, seed, prompt.tools)
            try:
                done, turns = await self._generate(request, prompt, index)
            except RequestFailed as failure:
                error = str(failure)
                if not failure.retry:
                    break
                name = f"{prompt.key}-{index}-again"  # an engine may still hold the id that failed
                continue
            return Answer(
                prompt.index, index, done.text.strip(), done.finish_reason,
                done.prompt_tokens, done.completion_tokens, seed, None, ready, done.logprobs, turns,
            )  # fmt: skip
        return Answer(prompt.index, index, "", "error", len(prompt.token_ids), 0, seed, error, ready)

    async def _generate(
        self, request: GenerationRequest, prompt: Prompt, index: int
    ) -> tuple[Completion, list[dict[str, Any]] | None]:
        """An answer; of a conversation the last one, with all of its turns."""
        engine, user_engine, _ = self._started
        if self._spec.turns is None:
            return await engine.generate(request), None
        place = Place(prompt, index, self._spec.seed)
        said = await Dialogue(self._spec.turns, engine, user_engine, place).run(request)
        return joined(said), [turn.told() for turn in said]


def _one_row(message: Message) -> Any:
    import pyarrow as pa

    return pa.table({"message": pa.array([pack(message)], pa.binary())})


def _failure(error: Exception) -> Message:
    if isinstance(error, ExceptionGroup):
        return _failure(error.exceptions[0])
    known = isinstance(error, AutoAlignError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    return Message([], failure=(type(error).__name__, reason))
