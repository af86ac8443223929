"""Where models run: what is known, for how long, and who waits for the fleet."""

import asyncio

import pytest

from autoalign.serving.metrics import Metrics
from autoalign.serving.placement import Placement, unknown_model
from autoalign.serving.placements import Placements
from autoalign.serving.waiters import Waiters


class Fleet:
    """Answers once its gate is open, with an engine that has a new name each time."""

    def __init__(self):
        self.now, self.asked, self.refuses, self.fails = 100.0, 0, False, False
        self.metrics = Metrics()
        self.gate = asyncio.Event()
        self.gate.set()
        self.known = Placements(self.ask, Waiters(5, self.metrics.queued), lambda: self.now)

    async def ask(self, model):
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.fails:
            raise ConnectionError("gone")
        return unknown_model(model) if self.refuses else Placement(f"engine-{number}")

    async def name(self):
        return (await self.known.find("m")).app_name

    async def after(self, seconds):
        self.now += seconds
        found = await self.name()
        await asyncio.sleep(0.001)  # what was asked beside it is answered
        return found


def run(test):
    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_busy_model_is_looked_up_twice_a_second_beside_its_requests():
    async def test():
        fleet = Fleet()
        assert [await fleet.after(0.2) for _ in range(8)] == [
            *("engine-1", "engine-1", "engine-1", "engine-1"),  # 0.6 s old: asked anew
            *("engine-2", "engine-2", "engine-2", "engine-3"),
        ]

    run(test)


def test_after_two_seconds_a_request_waits_for_the_fleet():
    async def test():
        fleet = Fleet()
        assert [await fleet.after(seconds) for seconds in (0, 1.9, 2.0)] == [
            "engine-1",
            "engine-1",
            "engine-3",
        ]

    run(test)


def test_a_slow_fleet_holds_no_request_up_while_the_engine_is_known():
    async def test():
        fleet = Fleet()
        await fleet.name()
        fleet.gate.clear()
        assert [await fleet.after(0.6) for _ in range(3)] == ["engine-1"] * 3
        assert fleet.asked == 2  # one question, not three

    run(test)


def test_many_requests_of_a_model_that_is_being_loaded_ask_once():
    async def test():
        fleet = Fleet()
        fleet.gate.clear()
        waiting = [asyncio.ensure_future(fleet.name()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # its client hung up: the others go on waiting
        fleet.gate.set()
        assert await asyncio.gather(*waiting[1:]) == ["engine-1"] * 4
        assert fleet.asked == 1

    run(test)


def test_a_model_that_is_gone_is_asked_for_again():
    async def test():
        fleet = Fleet()
        await fleet.name()
        fleet.refuses = True
        assert await fleet.after(0.6) == "engine-1"
        assert (await fleet.known.find("m")).status == 404

    run(test)


def test_a_fleet_that_fails_beside_a_request_fails_the_next_one_only():
    async def test():
        fleet = Fleet()
        await fleet.name()
        fleet.fails = True
        assert await fleet.after(0.6) == "engine-1"
        fleet.known.forget("m")
        with pytest.raises(ConnectionError):
            await fleet.name()
        fleet.fails = False
        assert await fleet.name() == "engine-4"

    run(test)
