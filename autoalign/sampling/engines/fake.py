"""An engine without a model: answers are computed from the request. For tests and dry runs.

Settings in `EngineOptions.extra`: `latency` (seconds an answer), `fail_ids` (requests that
always fail), `fail_once_ids` (that fail on the first try), `kill_ids` (that the engine dies of), `reverse`
(later prompts finish first),
`fault` (`("kill" or "dead", N, FILE)`: at its Nth request the process is killed or the engine dies, once:
`FILE` says that it has happened).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType

from autoalign.sampling.engines.base import (
    Completion,
    EngineDead,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
)

SUPPORTS = frozenset({"logprobs"})


class FakeEngine:
    """Says back the last user turn, with the seed when the sampling is random."""

    def __init__(self, options: EngineOptions) -> None:
        self._latency = float(options.extra.get("latency", 0.0))
        self._fail = frozenset(options.extra.get("fail_ids", ()))
        self._fail_once = set(options.extra.get("fail_once_ids", ()))
        self._kill = frozenset(options.extra.get("kill_ids", ()))
        self._reverse = bool(options.extra.get("reverse", False))
        self._fault = options.extra.get("fault")
        self._started = 0
        self._slots = _Slots(options.concurrency) if options.concurrency else None

    async def generate(self, request: GenerationRequest) -> Completion:
        """The same request always gives the same answer."""
        self._started += 1
        delay = self._latency / self._started if self._reverse else self._latency
        if self._slots is None:
            await asyncio.sleep(delay)
        else:
            async with self._slots:
                await asyncio.sleep(delay)
        if self._fault and self._started >= self._fault[1]:
            self._fail_for_good(*self._fault)
        if request.id in self._kill:
            raise EngineDead(f"the fake engine dies of {request.id}")
        if request.id in self._fail:
            raise RequestFailed("the fake engine was told to fail")
        if request.id in self._fail_once:
            self._fail_once.discard(request.id)
            raise RequestFailed("the fake engine was told to fail once")
        words = self._words(request)
        kept = words[: request.params.max_new_tokens]
        reason = "stop" if len(kept) == len(words) else "length"
        # Every word is certain.
        logprobs = (0.0,) * len(kept) if request.params.logprobs else None
        return Completion(" ".join(kept), reason, len(request.token_ids), len(kept), logprobs)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[str]:
        """Word by word."""
        for number, word in enumerate((await self.generate(request)).text.split(" ")):
            yield word if number == 0 else f" {word}"

    async def close(self) -> None:
        """Nothing is held."""

    def _fail_for_good(self, how: str, _: int, happened: str) -> None:
        try:
            os.close(os.open(happened, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self._fault = None
            return
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise EngineDead("the fake engine was told to die")

    def _words(self, request: GenerationRequest) -> list[str]:
        said = str(request.messages[-1]["content"]) if request.messages else ""
        mark = [] if request.params.greedy else [f"[{request.seed}]"]
        return ["echo:", *said.split(), *mark]


class _Slots:
    """A semaphore whose cost does not grow with those that wait, as that of `asyncio.Semaphore` does."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


async def create(options: EngineOptions) -> FakeEngine:
    """Made at once."""
    return FakeEngine(options)
