"""How the gateway comes to a lease while engines and the fleet come and go."""

import asyncio

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException

from autoalign.serving.engines import Refused, ServeEngines
from autoalign.serving.leases import Grant
from autoalign.serving.metrics import Metrics
from autoalign.serving.placement import Placement, unknown_model


class Grants:
    """The stream of one lease: what Ray Serve says, or a grant that stays open."""

    def __init__(self, said):
        self.said = said

    def __aiter__(self):
        return self

    async def __anext__(self):
        if isinstance(self.said, Exception):
            raise self.said
        if self.said is None:
            await asyncio.Event().wait()
        said, self.said = self.said, None
        return said

    def cancel(self):
        pass


class World:
    """A fleet and its engines; `told` is what each question for a lease is answered."""

    def __init__(self, *told, places=None, most_waiting=8):
        self.told, self.places, self.asked = list(told), list(places or ()), 0
        self.metrics = Metrics()
        self.engines = ServeEngines(
            self.place, lambda app: self, None, self.metrics, longest=60.0, most_waiting=most_waiting
        )
        self.lease = self
        self.apps = []
        self.loaded = asyncio.Event()
        self.loaded.set()

    async def place(self, model):
        self.asked += 1
        await self.loaded.wait()
        answer = self.places.pop(0) if self.places else Placement(f"engine-{self.asked}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def remote(self, adapter):
        return Grants(self.told.pop(0))

    async def use(self):
        async with self.engines.lease("m") as grant:
            return grant.url


def grant(url="http://engine"):
    return Grant(url, "secret", "m")


def run(world):
    return asyncio.run(asyncio.wait_for(world.use(), 30))


def test_an_engine_that_was_put_away_meanwhile_is_looked_up_anew():
    world = World(RayServeException("no such deployment"), grant("http://new"))
    assert (run(world), world.asked) == ("http://new", 2)


def test_an_engine_that_stays_away_is_503_with_retry_after():
    world = World(*[RayActorError() for _ in range(2)])
    with pytest.raises(Refused) as refused:
        run(world)
    assert (refused.value.refusal.status, refused.value.refusal.retry_after) == (503, 5)


def test_a_fleet_that_died_once_is_asked_again():
    world = World(grant(), places=[RayActorError()])
    assert (run(world), world.asked) == ("http://engine", 2)


def test_a_full_queue_is_429():
    world = World(*[BackPressureError(1, 1) for _ in range(3)])
    with pytest.raises(Refused) as refused:
        run(world)
    assert refused.value.refusal.status == 429


def test_a_name_that_no_model_has_leaves_no_trace_in_the_figures():
    world = World(places=[unknown_model("m")])
    with pytest.raises(Refused) as refused:
        run(world)
    assert refused.value.refusal.status == 404
    assert b'model="m"' not in world.metrics.text()


def queued(world):
    """The figure of the model's requests that wait; None where there is none."""
    return world.metrics.registry.get_sample_value("autoalign_queued", {"model": "m"})


def test_while_a_model_is_loaded_no_more_requests_wait_than_its_engine_takes():
    async def test():
        world = World(*[grant()] * 4, most_waiting=3)
        world.loaded.clear()
        waiting = [asyncio.ensure_future(world.use()) for _ in range(3)]
        await asyncio.sleep(0.001)
        assert (queued(world), world.asked) == (3.0, 1)
        with pytest.raises(Refused) as refused:
            await world.use()
        assert (refused.value.refusal.status, refused.value.refusal.retry_after) == (429, 1)
        waiting.pop().cancel()  # its client hung up: there is room for another one
        await asyncio.sleep(0.001)
        assert queued(world) == 2.0
        waiting.append(asyncio.ensure_future(world.use()))
        await asyncio.sleep(0.001)
        world.loaded.set()
        assert await asyncio.gather(*waiting) == ["http://engine"] * 3
        assert queued(world) == 0.0

    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_made_up_name_leaves_no_trace_though_its_client_hung_up():
    async def test():
        world = World(places=[unknown_model("m")])
        world.loaded.clear()
        asked = asyncio.ensure_future(world.use())
        await asyncio.sleep(0.001)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        world.loaded.set()
        await asyncio.sleep(0.001)
        assert queued(world) is None

    asyncio.run(asyncio.wait_for(test(), 30))
