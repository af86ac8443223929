"""A burst of chat requests on an OpenAI-style endpoint, and what came out of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Load:
    """`requests` requests of `tokens` tokens each, from `clients` clients at a time."""

    clients: int
    streamed: bool
    requests: int
    tokens: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.clients} clients, {'streamed' if self.streamed else 'whole'}"


def measure(url: str, model: str, prompts: Sequence[str], load: Load) -> dict[str, Any]:
    """`tokens_per_second` over the burst, and `first_token`: seconds to each request's first token."""
    return asyncio.run(_measure(url, model, prompts, load))


async def _measure(url: str, model: str, prompts: Sequence[str], load: Load) -> dict[str, Any]:
    waiting = iter([prompts[index % len(prompts)] for index in range(load.requests)])
    first: list[float] = []
    tokens = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal tokens
        for prompt in waiting:
            used, seconds = await _ask(session, f"{url}/v1/chat/completions", _body(model, prompt, load))
            tokens += used
            first.append(seconds)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(load.clients)))
        seconds = time.perf_counter() - began
    if tokens != load.requests * load.tokens:
        raise SystemExit(f"{url}: {tokens} tokens came, {load.requests * load.tokens} were asked for")
    return {"tokens_per_second": tokens / seconds, "seconds": seconds, "first_token": first}


def _body(model: str, prompt: str, load: Load) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": load.tokens,
        "ignore_eos": True,
    }
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if load.streamed else body


async def _ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> tuple[int, float]:
    """(tokens of the answer, seconds to its first one; of a whole answer, to its end)."""
    began = time.perf_counter()
    async with session.post(url, json=body) as answer:
        if answer.status != 200:
            raise SystemExit(f"{url}: HTTP {answer.status}: {await answer.text()}")
        if not body.get("stream"):
            used = (await answer.json())["usage"]["completion_tokens"]
            return used, time.perf_counter() - began
        first, used = 0.0, 0
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if not first and event["choices"] and event["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - began
            used = (event.get("usage") or {}).get("completion_tokens", used)
        return used, first
