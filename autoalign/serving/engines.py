"""The gateway's side of leases: asks the fleet where a model runs, and Ray Serve for a replica of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp

from autoalign.serving import leases
from autoalign.serving.lease_pool import Held, LeasePool
from autoalign.serving.leases import Grant
from autoalign.serving.metrics import Metrics
from autoalign.serving.placement import Placement, Refusal, busy
from autoalign.serving.placements import Placements
from autoalign.serving.waiters import Waiters

_AGAIN = (0.02, 0.1)  # seconds after which a full queue is asked once more

log = logging.getLogger("autoalign.serving")


class Refused(Exception):
    """The request gets no engine; `refusal` is the answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class EngineGone(Exception):
    """The engine went away before it said anything."""


class Engines(Protocol):
    """Where the gateway gets leases from."""

    def lease(self, model: str) -> Any:
        """An async context manager that gives a `Grant`. It is told of an `EngineGone` in its block.

        Raises:
            Refused: no such model, or no room.
        """


class ServeEngines:
    """Leases from Ray Serve.

    Args:
        place: asks the fleet.
        handle: the Ray Serve handle of an application's engines.
        session: speaks to engines.
        longest: seconds after which a busy lease goes back, so that Ray Serve spreads requests anew.
        most_waiting: requests of a model that wait while it is found or loaded; further ones are refused.
    """

    def __init__(
        self,
        place: Callable[[str], Awaitable[Placement | Refusal]],
        handle: Callable[[str], Any],
        session: aiohttp.ClientSession,
        metrics: Metrics,
        longest: float,
        most_waiting: int,
    ) -> None:
        self._handle, self._session, self._metrics = handle, session, metrics
        self._placements = Placements(place, Waiters(most_waiting, metrics.queued))
        self._pool = LeasePool(self._ask, self._give_back, longest)

    @asynccontextmanager
    async def lease(self, model: str) -> AsyncIterator[Grant]:
        """A replica of the model's engine, for one request."""
        held = await self._take(model)
        try:
            with self._metrics.in_flight.labels(model).track_inprogress():
                yield held.grant
        except EngineGone:
            self._pool.forget(held.grant.url)
            self._pool.end(held)
            raise
        except BaseException:  # a client hung up: the engine may be at work for a moment longer
            self._pool.end(held)
            raise
        self._pool.put_back(held)

    async def close(self) -> None:
        """Give all leases back."""
        await self._pool.close()

    async def _placement(self, model: str) -> Placement:
        answer = await self._placements.find(model)
        if isinstance(answer, Refusal):
            raise Refused(answer)
        return answer

    async def _take(self, model: str) -> Held:
        """A lease; where the engine that was known is gone, the fleet is asked once more."""
        from ray.exceptions import RayError
        from ray.serve.exceptions import BackPressureError, RayServeException

        for _ in range(2):
            try:
                placement = await self._placement(model)
                with self._metrics.queued.labels(model).track_inprogress():
                    return await self._pool.take(placement)
            except BackPressureError:
                raise Refused(busy()) from None
            except (RayError, RayServeException) as error:
                self._placements.forget(model)  # it may have been put away
                log.warning("no lease for %s: %s", model, error)
        raise Refused(Refusal(503, f"No engine of '{model}' answers; try again.", None, 5))

    async def _ask(self, placement: Placement) -> Held:
        """A new lease. A request on its way to a replica counts as queued, so in a burst of them the queue
        seems full for a moment longer than it is."""
        from ray.serve.exceptions import BackPressureError

        for pause in _AGAIN:
            try:
                return await self._ask_once(placement)
            except BackPressureError:
                await asyncio.sleep(pause)
        return await self._ask_once(placement)

    async def _ask_once(self, placement: Placement) -> Held:
        grants = self._handle(placement.app_name).lease.remote(placement.adapter)
        try:
            grant = await anext(grants)
        except asyncio.CancelledError:
            grants.cancel()  # the client hung up while it waited, or has another lease
            raise
        return Held(placement, grant, asyncio.ensure_future(_finish(grants)))

    async def _give_back(self, held: Held) -> None:
        url, headers = held.grant.url + leases.END_PATH, {leases.HEADER: held.grant.lease}
        try:
            async with self._session.delete(url, headers=headers):
                pass
        except aiohttp.ClientError:
            pass  # its replica is gone, and the lease with it


async def _finish(grants: Any) -> None:
    """Read the stream of grants to its end, which is the lease's."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        async for _ in grants:
            pass
    except (RayError, RayServeException):
        pass  # the replica is gone, and its lease with it
