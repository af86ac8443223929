"""Endpoints over HTTP, without Ray: several URLs, dead ones, limits, the key, and prompts as token ids."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from endpoint import Endpoint, completion, serve

from autoalign.errors import ConfigError
from autoalign.sampling.engines.base import (
    Completion,
    EngineDead,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
    SamplingParams,
    create_engine,
)

pytestmark = pytest.mark.slow
_T = TypeVar("_T")

KEY = "sk-a-secret-of-ours"
PARAMS = SamplingParams(temperature=1.0, max_new_tokens=8)


class Recorder(Endpoint):
    """Remembers headers; refuses any key that is not ours with the key in its message, as some do."""

    log: list[str]
    failures: int

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).log.append(self.headers["Authorization"])
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self._send(401, {"error": {"message": f"wrong: {self.headers['Authorization']}"}})
        elif self.failures:
            type(self).failures -= 1
            self._send(503, {"error": {"message": "starting"}})
        else:
            self._send(200, completion(body["messages"][-1]["content"]))


class Server:
    """One endpoint of its own, with what it has seen."""

    def __init__(self, failures: int = 0) -> None:
        self.handler = type("One", (Recorder,), {"log": [], "failures": failures})


@pytest.fixture
def two() -> Iterator[tuple[list[str], list[Any]]]:
    handlers = [Server().handler, Server().handler]
    with serve(handlers[0]) as first, serve(handlers[1]) as second:
        yield [first, second], handlers


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def wait(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(coroutine)


def request(number: int, params: SamplingParams = PARAMS, ids: tuple[int, ...] = ()) -> GenerationRequest:
    return GenerationRequest(str(number), ({"role": "user", "content": f"q{number}"},), ids, params, 1)


async def ask(count: int, backend: str = "openai", **options: Any) -> list[Completion]:
    engine = await create_engine(backend, EngineOptions("m", **options))
    try:
        return await asyncio.gather(*(engine.generate(request(number)) for number in range(count)))
    finally:
        await engine.close()


def dead_url() -> str:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def test_urls_share_the_load(two: Any) -> None:
    urls, handlers = two
    wait(ask(8, base_url=tuple(urls), concurrency=4))
    assert [len(handler.log) for handler in handlers] == [4, 4]


def test_a_dead_url_is_left_out(two: Any) -> None:
    urls, handlers = two
    answers = wait(ask(6, base_url=(dead_url(), urls[0]), concurrency=1))
    assert [answer.text for answer in answers] == [f"q{number}" for number in range(6)]
    assert len(handlers[0].log) == 6


def test_a_url_that_comes_back_is_used_again() -> None:
    handler = Server(failures=2).handler
    with serve(handler) as url:
        (answer,) = wait(ask(1, base_url=(url,)))
    assert (answer.text, len(handler.log)) == ("q0", 3)


def test_tries_have_an_end() -> None:
    handler = Server(failures=9).handler
    with serve(handler) as url, pytest.raises(EngineDead, match=r"503: starting \(2 tries, without one ans"):
        wait(ask(1, base_url=(url,), max_retries=1))
    assert len(handler.log) == 2


def test_one_request_that_keeps_failing_does_not_end_the_others() -> None:
    handler = Server().handler

    async def two_requests(url: str) -> None:
        engine = await create_engine("openai", EngineOptions("m", base_url=(url,), max_retries=0))
        await engine.generate(request(0))
        handler.failures = 1
        with pytest.raises(RequestFailed, match="503"):
            await engine.generate(request(1))
        assert (await engine.generate(request(2))).text == "q2"

    with serve(handler) as url:
        wait(two_requests(url))


def test_a_key_is_never_told(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(EngineDead, match=r"401: wrong: Bearer \*\*\*$"):
        wait(ask(1, base_url=tuple(two[0])))


def test_a_limit_a_minute_spaces_requests(two: Any) -> None:
    """6,000 a minute: ten of them take at least nine hundredths of a second."""
    urls, handlers = two

    async def timed() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await ask(10, base_url=tuple(urls), requests_per_minute=6000.0)
        return loop.time() - began

    assert wait(timed()) >= 0.09
    assert sum(len(handler.log) for handler in handlers) == 10


async def serve_asks(url: str, params: SamplingParams, **options: Any) -> dict[str, Any]:
    engine = await create_engine("serve", EngineOptions("folder/m", base_url=(url,), **options))
    answer = await engine.generate(request(0, params, ids=(5, 6, 7)))
    await engine.close()
    assert answer.prompt_tokens == 3
    sent: dict[str, Any] = json.loads(answer.text)
    return sent


def test_a_deployment_gets_our_token_ids_and_every_parameter() -> None:
    params = replace(PARAMS, top_k=5, min_p=0.1, repetition_penalty=1.2, stop=("x",), stop_token_ids=(2,))
    with serve() as url:
        sent = wait(serve_asks(url, params))
    assert (sent["model"], sent["prompt"], sent["max_tokens"], sent["seed"]) == ("m", [5, 6, 7], 8, 1)
    assert (sent["top_k"], sent["min_p"], sent["repetition_penalty"]) == (5, 0.1, 1.2)
    assert (sent["stop"], sent["stop_token_ids"], sent["add_special_tokens"]) == (["x"], [2], False)


def test_a_deployment_with_several_models_wants_one_named() -> None:
    handler = type("Two", (Endpoint,), {"models": ("a", "b")})
    with serve(handler) as url:
        assert wait(serve_asks(url, PARAMS, served_model="b"))["model"] == "b"
        with pytest.raises(ConfigError, match="serves a, b: name one of them with --model_name"):
            wait(serve_asks(url, PARAMS))
