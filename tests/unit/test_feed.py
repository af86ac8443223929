"""The queue between the driver and a pipeline's source."""

from __future__ import annotations

import asyncio

import pytest

from autoalign.sampling.feed import _Queue


def test_the_end_waits_for_tasks_that_it_overtook() -> None:
    async def given() -> list[list[bytes]]:
        queue = _Queue()
        await queue.end(2)
        await queue.put(b"one")
        first = await queue.take()
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        await queue.put(b"two")
        return [first, await waiting, await queue.take()]

    assert asyncio.run(given()) == [[b"one"], [b"two"], []]


def test_a_source_that_starts_again_is_refused() -> None:
    async def twice() -> None:
        queue = _Queue()
        await queue.begin()
        await queue.begin()

    with pytest.raises(RuntimeError, match="lost"):
        asyncio.run(twice())
