"""The engine without a model: how many requests it works on at once, and in which order."""

from __future__ import annotations

import asyncio
import contextlib

from autoalign.sampling.engines.fake import _Slots


def test_no_more_are_at_work_than_there_are_slots_and_who_came_first_goes_first() -> None:
    order: list[int] = []
    at_work = most = 0

    async def one(slots: _Slots, number: int) -> None:
        nonlocal at_work, most
        async with slots:
            at_work += 1
            most = max(most, at_work)
            order.append(number)
            await asyncio.sleep(0)
            at_work -= 1

    async def main() -> None:
        slots = _Slots(2)
        await asyncio.gather(*(one(slots, number) for number in range(7)))
        await asyncio.gather(*(one(slots, number) for number in range(7, 9)))

    asyncio.run(main())
    assert (order, most) == (list(range(9)), 2)


def test_who_gives_up_waiting_takes_no_slot_along() -> None:
    async def hold(slots: _Slots, until: asyncio.Event) -> None:
        async with slots:
            await until.wait()

    async def main() -> None:
        slots, until = _Slots(1), asyncio.Event()
        first, second, third = (asyncio.create_task(hold(slots, until)) for _ in range(3))
        await asyncio.sleep(0)
        until.set()
        await asyncio.sleep(0)  # the first one passes its slot on to the second, which has not run yet
        second.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await second
        await asyncio.wait_for(asyncio.gather(first, third), timeout=5)

    asyncio.run(main())
