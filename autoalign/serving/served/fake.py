"""An engine without a model, for tests of everything around one.

It says its folder's state and its own process, word by word, at the pace that the folder's `fake.json`
sets; asked "count" it says how many words it has said so far, to anybody.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response

from autoalign.errors import JobFailed
from autoalign.serving.access import ASGIApp
from autoalign.serving.spec import EngineSpec


class FakeServed:
    """Says words."""

    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    errored = False

    def __init__(self, spec: EngineSpec, settings: dict[str, Any]) -> None:
        self._spec, self._said = spec, 0
        self._seconds = float(settings.get("seconds_per_word", 0))
        self._app = FastAPI()
        self._app.add_api_route("/v1/chat/completions", self._chat, methods=["POST"], response_model=None)

    @property
    def app(self) -> ASGIApp:
        """Chat alone."""
        return self._app

    async def load_adapter(self, name: str, folder: str) -> None:
        """Any folder will do."""

    def close(self) -> None:
        """Nothing is held."""

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        if body["messages"][-1]["content"] == "count":
            return JSONResponse(_answer(body, str(self._said), 1))
        words = int(body.get("max_tokens") or 3)
        if body.get("stream"):
            return StreamingResponse(self._events(body, words), media_type="text/event-stream")
        said = [word async for word in self._words(body, words)]
        return JSONResponse(_answer(body, "".join(said), words))

    async def _words(self, body: dict[str, Any], count: int) -> AsyncIterator[str]:
        first = [f"{body['model']} ", f"{self._spec.digest[:8]} ", f"{os.getpid()} "]
        for number in range(count):
            if self._seconds:
                await asyncio.sleep(self._seconds)
            self._said += 1
            yield first[number] if number < len(first) else "word "

    async def _events(self, body: dict[str, Any], count: int) -> AsyncIterator[str]:
        event = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
        async for word in self._words(body, count):
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            yield f"data: {json.dumps({**event, 'choices': [choice]})}\n\n"
        if (body.get("stream_options") or {}).get("include_usage"):
            yield f"data: {json.dumps({**event, 'choices': [], 'usage': _usage(count)})}\n\n"
        yield "data: [DONE]\n\n"


def _answer(body: dict[str, Any], text: str, words: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": _usage(words),
    }


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}


async def start(spec: EngineSpec) -> FakeServed:
    """Start, after the seconds that `fake.json` asks for.

    Raises:
        JobFailed: `fake.json` says so.
    """
    path = Path(spec.folder) / "fake.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    await asyncio.sleep(float(settings.get("seconds_to_start", 0)))
    if settings.get("broken"):
        raise JobFailed("this one is broken")
    return FakeServed(spec, settings)
