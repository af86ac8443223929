"""Leases that the gateway holds between requests."""

import asyncio

import pytest

from autoalign.serving import lease_pool
from autoalign.serving.lease_pool import Held, LeasePool
from autoalign.serving.leases import Grant, Lease
from autoalign.serving.placement import Adapter, Placement

HERE = Placement("engine-a")


class Serve:
    """Ray Serve with `room` leases; further ones wait, or are refused when `full`."""

    def __init__(self, room, longest=lease_pool.LONGEST):
        self.room = asyncio.Semaphore(room)
        self.asked, self.given_back, self.full = 0, [], False
        self.pool = LeasePool(self.ask, self.give_back, longest)

    async def ask(self, placement):
        if self.full:
            raise RuntimeError("full")
        await self.room.acquire()
        self.asked += 1
        over = asyncio.get_running_loop().create_future()
        return Held(placement, Grant("http://engine", f"lease {self.asked}", "m"), over)

    async def give_back(self, held):
        held.over.set_result(None)
        self.given_back.append(held.grant.lease)
        self.room.release()


def run(test):
    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_lease_is_used_again():
    async def test():
        serve = Serve(2)
        first = await serve.pool.take(HERE)
        serve.pool.put_back(first)
        assert (await serve.pool.take(HERE), serve.asked) == (first, 1)

    run(test)


def test_each_engine_has_leases_of_its_own():
    async def test():
        serve = Serve(2)
        first = await serve.pool.take(HERE)
        serve.pool.put_back(first)
        assert (await serve.pool.take(Placement("engine-a", Adapter("x", "/x", "1")))) is not first

    run(test)


def test_who_waits_longest_gets_what_is_put_back():
    async def test():
        serve = Serve(1)
        held = await serve.pool.take(HERE)
        waiting = [asyncio.ensure_future(serve.pool.take(HERE)) for _ in range(2)]
        await asyncio.sleep(0)
        serve.pool.put_back(held)
        await asyncio.sleep(0.01)
        assert [each.done() for each in waiting] == [True, False]
        serve.pool.put_back(waiting[0].result())
        assert (await waiting[1], serve.asked) == (held, 1)

    run(test)


def test_what_ray_serve_refuses_is_refused():
    async def test():
        serve = Serve(1)
        serve.full = True
        with pytest.raises(RuntimeError, match="full"):
            await serve.pool.take(HERE)

    run(test)


def test_who_hangs_up_while_waiting_takes_nothing_along():
    async def test():
        serve = Serve(1)
        held = await serve.pool.take(HERE)
        gone = asyncio.ensure_future(serve.pool.take(HERE))
        await asyncio.sleep(0)
        serve.pool.put_back(held)  # for the one that goes at the same moment
        gone.cancel()
        await asyncio.sleep(0)
        assert await serve.pool.take(HERE) is held

    run(test)


@pytest.mark.parametrize(("linger", "longest"), [(0.0, 60.0), (60.0, 0.0)])
def test_a_lease_goes_back_unused_or_after_long_use(linger, longest, monkeypatch):
    monkeypatch.setattr(lease_pool, "_LINGER", linger)

    async def test():
        serve = Serve(1, longest)
        held = await serve.pool.take(HERE)
        await asyncio.sleep(0.01)
        serve.pool.put_back(held)
        await asyncio.sleep(0.05)
        assert serve.given_back == ["lease 1"]
        assert await serve.pool.take(HERE) is not held

    run(test)


def test_a_gateway_that_closes_keeps_no_lease():
    async def test():
        serve = Serve(2)
        serve.pool.put_back(await serve.pool.take(HERE))
        await serve.pool.close()
        assert serve.given_back == ["lease 1"]

    run(test)


def test_no_lease_of_an_engine_that_is_gone_is_used():
    async def test():
        serve = Serve(3)
        both = [await serve.pool.take(HERE) for _ in range(2)]
        for held in both:
            serve.pool.put_back(held)
        serve.pool.forget("http://engine")
        assert await serve.pool.take(HERE) not in both

    run(test)


@pytest.mark.parametrize("during_a_request", [True, False])
def test_a_lease_is_over_once_given_back_and_unused(during_a_request):
    async def test():
        lease = Lease()
        over = asyncio.ensure_future(lease.over(patience=30))
        with lease.in_use():
            if during_a_request:
                lease.give_back()
            await asyncio.sleep(0.01)
            assert not over.done()
        lease.give_back()
        await asyncio.wait_for(over, 5)

    run(test)


def test_a_lease_that_nobody_uses_is_over():
    asyncio.run(asyncio.wait_for(Lease().over(patience=0.01), 5))
