"""The whole endpoint for a browser: a platform whose jobs a test moves on, and models that say words back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from autoalign.config.serve import ServeConfig
from autoalign.jobs.platform import Platform
from autoalign.serving.app import Parts, build_app
from autoalign.serving.catalogue import Served
from autoalign.serving.metrics import Metrics
from autoalign.serving.platform_routes import platform_routers
from autoalign.serving.visibility import Visibility
from tests.platforms import open_platform
from tests.web import serving

MODELS = ("base", "tuned")


@dataclass(frozen=True)
class Site:
    """A running endpoint.

    Attributes:
        token: of an admin.
        infer: a token that may only chat.
        hung_up: how many streams ended because the client went away.
    """

    url: str
    platform: Platform
    token: str
    infer: str
    hung_up: list[str]


class Echo:
    """Answers in a stream: the model's name, and the last message. "forever" is answered without end."""

    def __init__(self) -> None:
        self.hung_up: list[str] = []

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        return StreamingResponse(self._events(body), media_type="text/event-stream")

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        said = body["messages"][-1]["content"]
        words = ["again"] * 100_000 if said == "forever" else [body["model"], "heard:", *said.split()]
        is_whole = False
        try:
            for word in words:
                delta = {"choices": [{"index": 0, "delta": {"content": f"{word} "}}]}
                yield f"data: {json.dumps(delta)}\n\n"
                await asyncio.sleep(0.01)
            is_whole = True
        finally:
            if not is_whole:
                self.hung_up.append(body["model"])
        yield "data: [DONE]\n\n"


async def _models() -> list[Served]:
    return [Served(id=name, folder=Path(), digest="", created=0) for name in MODELS]


async def _ready() -> bool:
    return True


@contextmanager
def open_site(folder: Path) -> Iterator[Site]:
    """The endpoint on a free port, closed by tokens."""
    platform, echo = open_platform(folder), Echo()
    forwarder: Any = echo
    config = ServeConfig(model_roots=[str(folder)], require_tokens=True)
    visibility, routers = Visibility(platform.models, _models), platform_routers(platform)
    app = build_app(Parts(config, forwarder, visibility, Metrics(), _ready, platform.tokens, routers))
    token = platform.tokens.create("ada", ["admin"]).text
    infer = platform.tokens.create("ivy", ["infer"]).text
    try:
        with serving(app) as url:
            yield Site(url, platform, token, infer, echo.hung_up)
    finally:
        platform.close()
