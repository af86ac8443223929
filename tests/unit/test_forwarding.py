"""A request's way to an engine's server and back; the server here is a small one of the test's own."""

import asyncio
import contextlib
import json
from pathlib import Path

import aiohttp
import pytest
from starlette.exceptions import HTTPException

from autoalign.config.serve import ServeConfig
from autoalign.principals import Principal
from autoalign.serving.app import Parts, build_app
from autoalign.serving.engines import Refused
from autoalign.serving.forwarding import Forwarder, openai_style
from autoalign.serving.http_server import HttpServer, bind
from autoalign.serving.leases import Grant, LeasedOnly, Leases
from autoalign.serving.metrics import Metrics
from autoalign.serving.placement import busy
from autoalign.serving.registry import RegistryUnavailable
from autoalign.serving.visibility import Visibility
from tests.unit.asgi_calls import call

READER = Principal("tok_1", "ada", frozenset({"infer"}))
CHAT = "/v1/chat/completions"


class Book:
    def find(self, token):
        return READER if token == "good" else None


class Registry:
    """Knows one model, which is somebody else's; of another one its database says nothing."""

    def find(self, name, principal=None):
        if name == "unknowable":
            raise RegistryUnavailable("the database does not answer")
        return Path("/models/private") if name == "private" and principal is None else None

    def served(self):
        return {}


class World:
    """An application in front of one engine's server, whose ASGI application the test gives."""

    def __init__(self, engine, models=None, **grant):
        self.engine, self.grant, self.models = engine, grant, models or no_models
        self.leases, self.refusal, self.given = Leases(), None, 0
        self.metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lease(self, model):
        if self.refusal is not None:
            raise Refused(self.refusal)
        lease = self.leases.new()
        self.given += 1
        try:
            yield Grant(url=self.server.url, lease=lease.id, model=f"engine-of-{model}", **self.grant)
        finally:
            self.leases.end(lease)

    async def __aenter__(self):
        self.server = HttpServer(LeasedOnly(self.engine, self.leases), bind("127.0.0.1", 0))
        self.session = aiohttp.ClientSession()
        visibility = Visibility(Registry(), self.models)
        parts = Parts(
            config=ServeConfig.build({"model_roots": ["x"], "max_body_bytes": 1024}),
            forwarder=Forwarder(self, self.session, self.metrics, visibility.may_use, "demo"),
            visibility=visibility,
            metrics=self.metrics,
            ready=no_models,
            book=Book(),
        )
        self.app = build_app(parts)
        return self

    async def __aexit__(self, *_):
        await self.session.close()
        await self.server.close()

    async def ask(self, body, path=CHAT, token="good"):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = [("authorization", f"Bearer {token}"), ("content-type", "application/json")]
        return await call(self.app, path, method="POST", pieces=[content], headers=headers)


async def no_models():
    return []


def engine_that_answers(pieces, status=200, kind=b"application/json", seen=None):
    async def engine(scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if seen is not None:
            seen.append((dict(scope["headers"]), json.loads(body)))
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return engine


def run(test):
    asyncio.run(asyncio.wait_for(test(), 30))


def test_an_answer_comes_back_byte_for_byte_and_its_tokens_are_counted():
    content = b'{"choices": [], "usage": {"completion_tokens": 7}}'

    async def test():
        async with World(engine_that_answers([content])) as world:
            answer = await world.ask({"model": "m", "messages": []})
            assert (answer.status, answer.body) == (200, content)
            assert b'autoalign_output_tokens_total{model="m"} 7.0' in world.metrics.text()

    run(test)


def usage(tokens):
    """The event that ends a stream whose usage was asked for."""
    return b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n' % tokens


@pytest.mark.parametrize("cut", [1, 7, 40, 1000], ids="{} bytes a piece".format)
def test_a_stream_comes_back_byte_for_byte_and_its_tokens_are_the_engines(cut):
    events = b'data: {"a": 1}\n\ndata: {"text":"\\"usage\\":{"}\n\n'
    sent = events + usage(12) + b"data: [DONE]\n\n"
    pieces, seen = [sent[at : at + cut] for at in range(0, len(sent), cut)], []

    async def test():
        async with World(engine_that_answers(pieces, kind=b"text/event-stream", seen=seen)) as world:
            answer = await world.ask({"stream": True})
            assert answer.body == events + b"data: [DONE]\n\n"
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert b'autoalign_output_tokens_total{model="demo"} 12.0' in world.metrics.text()
            assert seen[0][1]["stream_options"] == {"include_usage": True}

    run(test)


def test_a_client_that_asks_for_usage_gets_it():
    events = [b'data: {"a": 1}\n\n', usage(12), b"data: [DONE]\n\n"]

    async def test():
        async with World(engine_that_answers(events, kind=b"text/event-stream")) as world:
            answer = await world.ask({"stream": True, "stream_options": {"include_usage": True}})
            assert answer.body == b"".join(events)
            assert b'autoalign_output_tokens_total{model="demo"} 12.0' in world.metrics.text()

    run(test)


def test_the_engine_gets_its_own_name_for_the_model_and_the_templates_end():
    seen = []

    async def test():
        async with World(
            engine_that_answers([b"{}"], seen=seen), stop=("</s>",), stop_token_ids=(2,), chat_template="T"
        ) as world:
            await world.ask({"model": "m", "messages": [], "stop": "x", "temperature": 0.1})
        assert seen[0][1] == {
            **{"model": "engine-of-m", "messages": [], "temperature": 0.1, "chat_template": "T"},
            **{"stop": ["x", "</s>"], "stop_token_ids": [2]},
        }

    run(test)


def test_no_token_of_a_user_reaches_an_engine():
    seen = []

    async def test():
        async with World(engine_that_answers([b"{}"], seen=seen)) as world:
            await world.ask({})
        assert b"authorization" not in seen[0][0]

    run(test)


def test_a_full_queue_is_429_with_retry_after():
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            world.refusal = busy(3)
            answer = await world.ask({})
            assert (answer.status, answer.headers["retry-after"]) == (429, "3")
            assert answer.json["error"]["code"] == "rate_limit_exceeded"

    run(test)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b'{"model": 3}', b'{"model": ""}', b'{"chat_template": "{{x}}"}', b"[" * 900],
)
def test_a_body_that_is_no_request_is_400_and_takes_no_lease(body):
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            assert ((await world.ask(body)).status, world.given) == (400, 0)

    run(test)


@pytest.mark.parametrize(("lists", "status"), [(199, 200), (200, 400), (300, 400)])
def test_a_body_of_over_200_levels_is_400(lists, status):
    body = b'{"more": ' + b"[" * lists + b"]" * lists + b"}"  # the object is a level too

    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            assert (await world.ask(body)).status == status

    run(test)


def test_a_body_above_the_limit_is_413():
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            assert (await world.ask(b"x" * 1025)).status == 413

    run(test)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize", "/metrics", "/", "/v1/models"])
def test_no_route_answers_without_a_token(path):
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            assert (await world.ask({}, path, token="bad")).status == 401

    run(test)


def test_a_model_of_somebody_elses_job_is_not_there():
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            answer = await world.ask({"model": "private"})
            assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
            assert world.given == 0

    run(test)


def test_while_the_database_is_away_a_model_that_needs_it_is_503():
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            chat = await world.ask({"model": "unknowable"})
            headers = [("authorization", "Bearer good")]
            card = await call(world.app, "/v1/models/unknowable", headers=headers)
            for answer in (chat, card):
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
                assert answer.json["error"]["type"] == "server_error"
            assert (await world.ask({})).status == 200  # the default model does not

    run(test)


def test_a_list_of_models_that_cannot_be_had_is_the_servers_fault():
    async def gone():
        raise HTTPException(503, "it is being restarted", {"Retry-After": "1"})

    async def test():
        async with World(engine_that_answers([b"{}"]), models=gone) as world:
            headers = [("authorization", "Bearer good")]
            answer = await call(world.app, "/v1/models", headers=headers)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.json["error"]["type"] == "server_error"

    run(test)


def test_an_engines_server_answers_nobody_without_a_lease():
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            answer = await world.session.post(world.server.url + CHAT, json={})
            assert answer.status == 403

    run(test)


def test_a_lease_opens_until_it_is_given_back():
    async def test():
        async with World(engine_that_answers([b"{}"])) as world, world.lease("m") as grant:
            headers = {"x-autoalign-lease": grant.lease}
            statuses = []
            for method, path in [("POST", CHAT), ("POST", CHAT), ("DELETE", "/lease"), ("POST", CHAT)]:
                async with world.session.request(
                    method, grant.url + path, json={}, headers=headers
                ) as answer:
                    statuses.append(answer.status)
            assert statuses == [200, 200, 204, 403]

    run(test)


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_dies_before_its_first_word_is_asked_again_elsewhere(stream):
    good = engine_that_answers([b"data: [DONE]\n\n"], kind=b"text/event-stream")
    asked = []

    async def dies_once(scope, receive, send):
        if scope["type"] == "http" and not asked:
            asked.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            raise ConnectionResetError
        await good(scope, receive, send)

    async def test():
        async with World(dies_once) as world:
            answer = await world.ask({"stream": stream})
            assert (answer.status, world.given) == (200, 2)

    run(test)


def test_a_stream_whose_engine_dies_ends_with_an_error():
    async def dies(scope, receive, send):
        if scope["type"] == "http":
            kind = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": kind})
            await send({"type": "http.response.body", "body": b'data: {"a": 1}\n\n', "more_body": True})
            await asyncio.sleep(0.01)
            raise ConnectionResetError

    async def test():
        async with World(dies) as world:
            first, last, end = (await world.ask({"stream": True})).body.split(b"\n\n")
            assert (first, end) == (b'data: {"a": 1}', b"")
            assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "engine_gone"

    run(test)


def test_an_engine_that_went_away_before_it_answered_is_asked_again_elsewhere():
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            alive = world.server
            with bind("127.0.0.1", 0) as probe:
                nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
            urls = iter([nobody, alive.url])
            world.server = type("Next", (), {"url": property(lambda _: next(urls))})()
            answer = await world.ask({})
            world.server = alive
            assert (answer.status, world.given) == (200, 2)

    run(test)


def test_a_client_that_hangs_up_ends_the_engines_work():
    ended = asyncio.Event()

    async def endless(scope, receive, send):
        if scope["type"] != "http":
            return
        await receive()
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    async def test():
        async with World(endless) as world:
            front = HttpServer(world.app, bind("127.0.0.1", 0))
            request = world.session.post(
                front.url + CHAT, json={"stream": True}, headers={"authorization": "Bearer good"}
            )
            async with request as answer:
                await answer.content.readline()
                answer.close()
            await asyncio.wait_for(ended.wait(), 5)
            await front.close()

    run(test)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (404, "no such model", (404, "no such model", "model_not_found")),
        (501, "not this one", (400, "not this one", None)),
        (
            400,
            "This model's maximum context length is 8 tokens.",
            (400, "This model's maximum context length is 8 tokens.", "context_length_exceeded"),
        ),
        # vLLM leaves out the routes that its model has no use for.
        (404, "Not Found", (400, "This model has no use for /v1/embeddings.", "unsupported_by_model")),
    ],
)
def test_a_refusal_of_the_engine_reads_as_openai_writes_it(status, message, expected):
    error = {"message": message, "type": "NotFoundError", "param": "x", "code": status}
    theirs = json.dumps({"error": error}).encode()
    status, content = openai_style(status, theirs, "/v1/embeddings")
    error = json.loads(content)["error"]
    assert (status, error["message"], error["code"]) == expected
    assert (error["type"], error["param"]) == ("invalid_request_error", "x")


@pytest.mark.parametrize("name", ["a\0b", "x" * 401, "a\nb"])
def test_what_can_be_no_models_name_is_looked_up_nowhere(name):
    async def test():
        async with World(engine_that_answers([b"{}"])) as world:
            assert ((await world.ask({"model": name})).status, world.given) == (404, 0)

    run(test)
