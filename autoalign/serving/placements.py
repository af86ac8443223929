"""Where models run, as the fleet last said. Of a busy model it is asked beside the requests: none waits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from autoalign.serving.placement import Placement, Refusal, busy
from autoalign.serving.waiters import Waiters

_FRESH = 0.5  # seconds; after that a request is still answered by what is known, and has it looked up anew
_KNOWN = 2.0  # seconds; less than a replaced engine is kept (fleet.LINGER)

log = logging.getLogger("autoalign.serving")


class Placements:
    """Answers of the fleet, for a moment each.

    Args:
        ask: asks the fleet, which loads the model if need be.
        waiters: the requests that wait for its answer.
        clock: seconds.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Placement | Refusal]],
        waiters: Waiters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._waiters, self._clock = ask, waiters, clock
        self._known: dict[str, tuple[float, Placement]] = {}
        self._asking: dict[str, asyncio.Task[Placement | Refusal]] = {}

    async def find(self, model: str) -> Placement | Refusal:
        """Where the model runs, or why it doesn't; with as many waiting for that as may, it is busy.

        Raises:
            RayError: the fleet can't be asked.
        """
        since, known = self._known.get(model, (0.0, None))
        age = self._clock() - since
        if known is not None and age < _KNOWN:
            if age >= _FRESH:
                self._look_up(model)
            return known
        if self._waiters.is_full(model):
            return busy()
        with self._waiters.one_more(model):
            return await asyncio.shield(self._look_up(model))

    def forget(self, model: str) -> None:
        """What is known of it is wrong."""
        self._known.pop(model, None)

    def _look_up(self, model: str) -> asyncio.Task[Placement | Refusal]:
        """The one question on its way."""
        task = self._asking.get(model)
        if task is None:
            task = asyncio.ensure_future(self._asked(model))
            self._asking[model] = task
            task.add_done_callback(lambda done: self._answered(model, done))
        return task

    async def _asked(self, model: str) -> Placement | Refusal:
        began = self._clock()
        answer = await self._ask(model)
        if isinstance(answer, Placement):
            self._waiters.found(model)
            self._known[model] = (began, answer)
        else:
            self.forget(model)
        return answer

    def _answered(self, model: str, task: asyncio.Task[Placement | Refusal]) -> None:
        del self._asking[model]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.warning("the fleet does not say where %s runs: %s", model, error)
