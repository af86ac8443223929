"""The Ray Data actor: an engine, and the loop that keeps many requests in flight."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from autoalign.errors import AutoAlignError
from autoalign.sampling.engines.base import (
    Engine,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
    SamplingParams,
    create_engine,
    derive_seed,
)
from autoalign.sampling.prompts import Prompt

if TYPE_CHECKING:
    import pyarrow as pa

_TRIES = 2


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What an actor is made from. `seed` is the job's; each answer's own is derived from it.

    `sweep`: the parameters of each way to answer, where there are several (`Prompt.variant`).
    """

    backend: str
    options: EngineOptions
    params: SamplingParams
    seed: int
    sweep: tuple[SamplingParams, ...] = ()

    def params_of(self, prompt: Prompt) -> SamplingParams:
        """The parameters that this prompt is answered with."""
        return self.params if prompt.variant is None else self.sweep[prompt.variant]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or why there is none (`error`); `prompt` and `index` say which one."""

    prompt: int
    index: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seed: int
    error: str | None
    engine_ready: float  # time.time() when the engine was ready
    logprobs: tuple[float, ...] | None = None


class EngineWorker:
    """Takes tables of prompts, gives answers as they finish.

    `__call__` is a plain generator that Ray runs in several threads, not an async one:
    Ray Data collects all that an async generator yields before it passes anything on.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        # Errors of the start surface in the first call, as themselves; Ray wraps those of a constructor.
        self._engine: Future[tuple[Engine, float]] = asyncio.run_coroutine_threadsafe(
            self._start(), self._loop
        )

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """`table` has the columns `prompt` (a `Prompt` as JSON) and `wanted` (indices of its answers).

        Yields tables of one row, whose column `answers` lists what finished since the last one;
        in the last one `failure` may name an error that ends the job. It is not raised, because
        Ray Data would print its own and our stack on the user's terminal.
        """
        try:
            yield from map(_one_row, self._finished(table))
        except Exception as error:  # the boundary of the process
            yield _failure(error)

    def _finished(self, table: pa.Table) -> Iterator[list[Answer]]:
        self._engine.result()
        finished: queue.SimpleQueue[Future[Answer]] = queue.SimpleQueue()
        pending = 0
        for line, wanted in zip(table["prompt"].to_pylist(), table["wanted"].to_pylist(), strict=True):
            prompt = Prompt.loads(line)
            for index in wanted:
                future = asyncio.run_coroutine_threadsafe(self._answer(prompt, index), self._loop)
                future.add_done_callback(finished.put)
                pending += 1
        while pending:
            answers = _drain(finished)
            pending -= len(answers)
            yield [future.result() for future in answers]

    async def _start(self) -> tuple[Engine, float]:
        engine = await create_engine(self._spec.backend, self._spec.options)
        return engine, time.time()

    async def _answer(self, prompt: Prompt, index: int) -> Answer:
        engine, ready = self._engine.result()
        seed = derive_seed(self._spec.seed, prompt.id, index)
        error = ""
        for attempt in range(_TRIES):
            # An engine may still hold the id of a request that failed.
            name = f"{prompt.key}-{index}" if attempt == 0 else f"{prompt.key}-{index}-again"
            params = self._spec.params_of(prompt)
            request = GenerationRequest(name, prompt.messages, prompt.token_ids, params, seed, prompt.tools)
            try:
                done = await engine.generate(request)
            except RequestFailed as failure:
                error = str(failure)
                if not failure.retry:
                    break
                continue
            return Answer(
                prompt.index, index, done.text.strip(), done.finish_reason,
                done.prompt_tokens, done.completion_tokens, seed, None, ready, done.logprobs,
            )  # fmt: skip
        return Answer(prompt.index, index, "", "error", len(prompt.token_ids), 0, seed, error, ready)


def _drain(finished: queue.SimpleQueue[Future[Answer]]) -> list[Future[Answer]]:
    """Wait for one, and take all that are there by then."""
    answers = [finished.get()]
    while True:
        try:
            answers.append(finished.get_nowait())
        except queue.Empty:
            return answers


def _one_row(answers: list[Answer]) -> Any:
    return _table([asdict(answer) for answer in answers], None)


def _failure(error: Exception) -> Any:
    known = isinstance(error, AutoAlignError)
    return _table([], [type(error).__name__, str(error) if known else f"{type(error).__name__}: {error}"])


def _table(answers: list[dict[str, Any]], failure: list[str] | None) -> Any:
    import pyarrow as pa

    columns = {
        "answers": pa.array([answers], type=_answers_type()),
        "failure": pa.array([failure], type=pa.list_(pa.string())),
    }
    return pa.table(columns)


def _answers_type() -> Any:
    import pyarrow as pa

    kinds = {"int": pa.int64(), "float": pa.float64()}
    kinds["tuple[float, ...] | None"] = pa.list_(pa.float64())
    return pa.list_(pa.struct([(f.name, kinds.get(str(f.type), pa.string())) for f in fields(Answer)]))
