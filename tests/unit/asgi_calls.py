"""One request on an ASGI application, without a server."""

import asyncio
import json


class Answer:
    """What an application sent."""

    def __init__(self, messages):
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def json(self):
        return json.loads(self.body)


async def call(app, path="/", *, method="GET", headers=(), pieces=(b"",), **scope):
    """Ask `app`; the body comes in `pieces`."""
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting[-1]["more_body"] = False
    sent = []

    async def receive():
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()  # the client stays

    async def send(message):
        sent.append(message)

    lines = [(name.encode(), value.encode()) for name, value in headers]
    begin = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": lines}
    await app({**begin, "query_string": b"", **scope}, receive, send)
    return Answer(sent)


def ask(app, path="/", **request):
    """`call`, from code that has no event loop."""
    return asyncio.run(call(app, path, **request))


async def ok(scope, receive, send):
    """An application that reads its body and says how long it was."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})
