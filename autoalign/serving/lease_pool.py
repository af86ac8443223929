"""Leases that the gateway holds: one is used again, request after request, before it goes back.

A new lease is two messages through Ray, 5 to 15 ms; one that is held costs nothing. Ray Serve counts it as
in flight for as long as it is held, so it is held for seconds: a lease that nobody uses goes back after
`_LINGER`, and a busy one, where there may be several engines, after `LONGEST`, so that Ray Serve spreads the
requests over them anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from autoalign.serving.leases import Grant
from autoalign.serving.placement import Placement

_LINGER = 2.0  # seconds
LONGEST = 15.0


@dataclass(eq=False)
class Held:
    """A lease in the gateway's hands.

    Args:
        placement: the engine, and the adapter, that it is for.
        over: done when Ray Serve counts it no longer: it went back, or its replica is gone.
    """

    placement: Placement
    grant: Grant
    over: asyncio.Future[None]
    since: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle | None = None


class LeasePool:
    """Held leases, and the requests that wait for one.

    Args:
        ask: gets a new lease from Ray Serve; what it raises is the request's answer.
        give_back: tells the replica that a lease is no longer needed.
        longest: seconds after which a lease goes back though it is in use again and again.
    """

    def __init__(
        self,
        ask: Callable[[Placement], Awaitable[Held]],
        give_back: Callable[[Held], Awaitable[None]],
        longest: float = LONGEST,
    ) -> None:
        self._ask, self._give_back, self._longest = ask, give_back, longest
        self._idle: defaultdict[Placement, list[Held]] = defaultdict(list)
        self._waiting: defaultdict[Placement, deque[asyncio.Future[Held]]] = defaultdict(deque)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, placement: Placement) -> Held:
        """A held lease, or a new one; or, where all are in use, the first that is put back."""
        idle = self._idle[placement]
        while idle:
            held = idle.pop()
            assert held.timer is not None
            held.timer.cancel()
            if not held.over.done():
                return held
        return await self._wait(placement)

    def put_back(self, held: Held) -> None:
        """The request is done: the lease is the next one's."""
        if held.over.done():
            return
        if time.monotonic() - held.since > self._longest:
            self.end(held)
            return
        waiting = self._waiting[held.placement]
        while waiting:
            first = waiting.popleft()
            if not first.done():
                first.set_result(held)
                return
        held.timer = asyncio.get_running_loop().call_later(_LINGER, self._expire, held)
        self._idle[held.placement].append(held)

    def end(self, held: Held) -> None:
        """Give the lease back."""
        self._start(self._give_back(held))

    def forget(self, url: str) -> None:
        """An engine does not answer there: no other held lease of it is used."""
        for placement, idle in self._idle.items():
            gone = [held for held in idle if held.grant.url == url]
            self._idle[placement] = [held for held in idle if held.grant.url != url]
            for held in gone:
                self.end(held)

    async def close(self) -> None:
        """Give back what is held: an engine that is put away waits for it."""
        idle = [held for each in self._idle.values() for held in each]
        self._idle.clear()
        await asyncio.gather(*(self._give_back(held) for held in idle))

    def _expire(self, held: Held) -> None:
        idle = self._idle[held.placement]
        if held in idle:
            idle.remove(held)
            self.end(held)
        if not idle and not self._waiting[held.placement]:
            del self._idle[held.placement], self._waiting[held.placement]

    async def _wait(self, placement: Placement) -> Held:
        """Whichever comes first: a new lease, or one that another request puts back."""
        waiter: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._waiting[placement].append(waiter)
        asking = self._start(self._ask_for(placement, waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.put_back(waiter.result())
            raise
        finally:
            waiter.cancel()
            asking.cancel()

    async def _ask_for(self, placement: Placement, waiter: asyncio.Future[Held]) -> None:
        try:
            held = await self._ask(placement)
        except Exception as error:  # it crosses from this task into the request's
            if not waiter.done():
                waiter.set_exception(error)
            return
        if waiter.done():
            self.put_back(held)
        else:
            waiter.set_result(held)

    def _start(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
