"""Real Ray Serve under more than it can do: ten times the capacity for a minute, 200 clients that hang up."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import psutil
import pytest

from tests.integration.fake_models import write
from tests.integration.served_endpoint import Endpoint, served

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

CAPACITY = 4 + 4  # in flight and queued
SECONDS = 60
CLIENTS = 200
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Small queues, and a second engine where the first is not enough."""
    model = write(tmp_path_factory.mktemp("models"), "slow", seconds_per_word=0.05)
    limits = ["--max_in_flight=4", "--max_queued=4", "--max_replicas=2", "--target_in_flight=2"]
    flags = ["--backend=fake", f"--checkpoint_path={model}", *limits]
    with served(tmp_path_factory.mktemp("home"), *flags) as running:
        yield running


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Room for every client at once."""
    model = write(tmp_path_factory.mktemp("models"), "slow", seconds_per_word=0.5)
    flags = ["--backend=fake", f"--checkpoint_path={model}", f"--max_in_flight={CLIENTS}"]
    with served(tmp_path_factory.mktemp("home"), *flags) as running:
        yield running


def session_of(endpoint: Endpoint) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        endpoint.url,
        headers={"Authorization": f"Bearer {endpoint.token}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=30),
    )


async def say(session: aiohttp.ClientSession, text: str = "hello") -> tuple[int, str, float]:
    """(status, the answer's text or the Retry-After, seconds)."""
    began = time.monotonic()
    body = {"model": "slow", "messages": [{"role": "user", "content": text}]}
    async with session.post("/v1/chat/completions", json=body) as answer:
        content = await answer.json()
        seconds = time.monotonic() - began
        if answer.status != 200:
            return answer.status, answer.headers.get("retry-after", ""), seconds
        return 200, content["choices"][0]["message"]["content"], seconds


def test_ten_times_the_capacity_for_a_minute(busy: Endpoint) -> None:
    """Each answer is a 200, a 429 or a 503 with Retry-After; a second engine helps; all is well 5 s after."""
    answers: list[tuple[int, str, float]] = []

    def engines() -> set[str]:
        return {text.split()[2] for status, text, _ in answers if status == 200}

    async def client(session: aiohttp.ClientSession, began: float) -> None:
        # Ray Serve looks at the load for 30 s before it starts an engine; a busy machine takes its time, too.
        while (now := time.monotonic() - began) < SECONDS or (len(engines()) < 2 and now < 2 * SECONDS):
            answers.append(await say(session))
            await asyncio.sleep(0.1)  # a client asks again as soon as it is refused

    async def flood() -> list[tuple[int, str, float]]:
        async with session_of(busy) as session:
            began = time.monotonic()
            await asyncio.gather(*(client(session, began) for _ in range(10 * CAPACITY)))
            await asyncio.sleep(5)
            return [await say(session) for _ in range(10)]

    after = asyncio.run(flood())
    statuses = Counter(status for status, _, _ in answers)
    assert statuses.keys() <= {200, 429, 503} and statuses[200] and statuses[429], statuses
    assert all(text.isdecimal() for status, text, _ in answers if status != 200)
    assert max(seconds for _, _, seconds in answers) < 15
    assert len(engines()) == 2
    assert [status for status, _, _ in after] == [200] * 10
    assert max(seconds for _, _, seconds in after) < 2  # three words take 0.15 s


def test_clients_that_hang_up_cost_neither_tokens_nor_memory(roomy: Endpoint) -> None:
    """200 streams are cut at once: a second later no word is said any more, and no process has grown."""

    async def hang_up() -> None:
        async with session_of(roomy) as session:
            body = {"model": "slow", "messages": HELLO, "max_tokens": 1_000_000, "stream": True}
            asked = (session.post("/v1/chat/completions", json=body) for _ in range(CLIENTS))
            streams = await asyncio.gather(*asked)
            assert {each.status for each in streams} == {200}
            await asyncio.gather(*(each.content.readline() for each in streams))
            for each in streams:
                each.close()

    async def said() -> int:
        async with session_of(roomy) as session:
            return int((await say(session, "count"))[1])

    sizes = []
    for _ in range(4):
        asyncio.run(hang_up())
        time.sleep(1)
        first = asyncio.run(said())
        time.sleep(1)
        assert asyncio.run(said()) == first
        assert roomy.metric("autoalign_in_flight") == 0
        sizes.append({each.pid: each.memory_info().rss for each in actors(roomy)})
    grown = {pid: size - sizes[1][pid] for pid, size in sizes[-1].items()}
    assert max(grown.values()) < 8 << 20, grown


def actors(endpoint: Endpoint) -> list[psutil.Process]:
    """The gateway and the engine."""
    family = psutil.Process(endpoint.process.pid).children(recursive=True)
    found = [each for each in family if "ServeReplica" in " ".join(each.cmdline())]
    assert len(found) >= 2, [each.cmdline() for each in family]
    return found
