"""A model asked many questions at once; every answer is kept on disk as it comes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoalign.config.engine import EngineConfig
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import JobFailed, TemplateError
from autoalign.evaluation.ask import Answered, Ask
from autoalign.evaluation.deployment import Served, server_lives
from autoalign.keyed_lines import KeyedLines
from autoalign.progress import ProgressBar
from autoalign.records import Message
from autoalign.sampling.engines.base import (
    Completion,
    Engine,
    GenerationRequest,
    RequestFailed,
    SamplingParams,
    create_engine,
    derive_seed,
)
from autoalign.sampling.setup import Setup, has_gpu, prepare_model

_TRIES = 2


class Answering:
    """One engine, used for all benchmarks of a job.

    Args:
        server: what is asked; None: the model folder `view`, by transformers in this process.
    """

    def __init__(self, config: EvalConfig, view: Path | None, server: Served | None) -> None:
        self._config = config
        self._end = server.end if server else server_lives
        self._backend = "hf" if server is None else "openai"
        keys = {
            "backend": self._backend,
            "model_path": str(view) if server is None else server.model,
            "base_url": server.url if server else None,
            "api_key_env": config.api_key_env,
            "concurrency": config.batch_size,
            "max_model_len": config.max_model_len if server is None else None,
            "dtype": config.dtype,
            "max_retries": config.max_retries,
            "timeout": config.timeout,
            "trust_remote_code": config.trust_remote_code,
        }
        setup = prepare_model(EngineConfig.build(keys))
        self._setup = Setup(replace(setup.options, use_gpu=has_gpu()), setup.params, setup.renderer)
        self._loop = asyncio.new_event_loop()
        self._engine: Engine | None = None

    def close(self) -> None:
        """End the engine, and what a signal left waiting for it."""
        if self._engine is not None:
            self._loop.run_until_complete(self._engine.close())
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()
        if waiting:  # a gathering of nothing belongs to another loop
            self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        self._loop.close()

    def answer(self, name: str, asks: Sequence[Ask], max_new_tokens: int, store: Path) -> list[Answered]:
        """Every question's answers, one a run.

        Args:
            store: where answers are kept, and looked for first.

        Raises:
            JobFailed: some can't be had; those that could are kept.
        """
        params = replace(self._setup.params, max_new_tokens=max_new_tokens)
        if gone := self._end():
            raise JobFailed(gone)
        with KeyedLines(store) as kept:
            work = _Work(self._setup, params, self._config, kept, self._end)
            return self._loop.run_until_complete(self._answer(name, asks, work))

    async def _answer(self, name: str, asks: Sequence[Ask], work: _Work) -> list[Answered]:
        work.engine = self._engine = self._engine or await create_engine(self._backend, self._setup.options)
        runs = range(self._config.num_runs)
        slots = asyncio.Semaphore(self._config.batch_size)
        bar = ProgressBar("eval")
        bar.start(len(asks) * len(runs), name)

        async def one(ask: Ask, run: int) -> tuple[str, ...] | None:
            async with slots:
                found = await work.turns(ask, run)
            work.done += 1
            bar.update(work.done, lambda: f"{name}: {work.done} of {len(asks) * len(runs)} answers")
            return found

        tasks = [asyncio.create_task(one(ask, run)) for ask in asks for run in runs]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            bar.stop()
        lost = sum(turns is None for turns in found)
        if lost:
            raise JobFailed(f"{lost} of {len(found)} answers can't be had: {work.problem}")
        each = iter(turns for turns in found if turns is not None)
        return [Answered(ask, tuple(next(each) for _ in runs)) for ask in asks]


@dataclass
class _Work:
    """The asking of one benchmark.

    Attributes:
        in_a_row: failures since the last answer; an endpoint that is gone is not asked for ever.
        problem: the last reason.
        end: why what is asked is gone, where that is known.
    """

    setup: Setup
    params: SamplingParams
    config: EvalConfig
    kept: KeyedLines
    end: Callable[[], str | None]
    engine: Any = None
    done: int = 0
    in_a_row: int = 0
    problem: str = ""
    given_up: bool = field(default=False)

    async def turns(self, ask: Ask, run: int) -> tuple[str, ...] | None:
        """The answers to all turns of one question; None where one can't be had."""
        messages, answers = list(ask.opening), []
        for number, said in enumerate(ask.turns):
            messages.append(Message("user", said))
            text = await self._text(f"{ask.id}-{run}-{number}", messages, run, self._params(ask))
            if text is None:
                return None
            messages.append(Message("assistant", text))
            answers.append(text)
        return tuple(answers)

    def _params(self, ask: Ask) -> SamplingParams:
        given = self.config.temperature
        return replace(self.params, temperature=ask.temperature if given is None else given)

    async def _text(
        self, name: str, messages: Sequence[Message], run: int, params: SamplingParams
    ) -> str | None:
        key = self._key(name, messages, params)
        row = self.kept.row(key)
        if row is None:
            seed = derive_seed(self.config.seed, key, run)
            completion = await self._ask(name, messages, params, seed)
            if completion is None:
                return None
            row = {
                "id": name,
                "text": completion.text,
                "finish_reason": completion.finish_reason,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
            }
            self.kept.append(key, row)
        return str(row["text"])

    async def _ask(
        self, name: str, messages: Sequence[Message], params: SamplingParams, seed: int
    ) -> Completion | None:
        for attempt in range(_TRIES):
            if self.given_up:
                return None
            try:
                token_ids = tuple(self.setup.renderer.encode(messages))
                dicts = tuple(message.to_dict() for message in messages)
                request = GenerationRequest(f"{name}-{attempt}", dicts, token_ids, params, seed)
                completion: Completion = await self.engine.generate(request)
            except (RequestFailed, TemplateError) as error:
                self.problem = str(error)
                self._count_failure()
                if isinstance(error, TemplateError) or not error.retry:
                    break
                continue
            self.in_a_row = 0
            return completion
        return None

    def _count_failure(self) -> None:
        self.in_a_row += 1
        if gone := self.end():
            self.problem = gone
        self.given_up = gone is not None or self.in_a_row > 2 * self.config.batch_size

    def _key(self, name: str, messages: Sequence[Message], params: SamplingParams) -> str:
        """An answer is used again for the same conversation under the same parameters alone."""
        given = (self.config.seed, params, name, [message.to_dict() for message in messages])
        return hashlib.blake2b(repr(given).encode("utf-8", "replace"), digest_size=16).hexdigest()
