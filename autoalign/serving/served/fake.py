"""An engine without a model, for tests of everything around one.

It says its folder's state and its own process, word by word, at the pace that the folder's `fake.json`
sets; asked "count" it says how many words it has said so far, to anybody. A token is a byte. Like vLLM it
looks at what it is sent, has no routes that its model has no use for, and says no in vLLM's words.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from autoalign.errors import JobFailed
from autoalign.serving.access import ASGIApp
from autoalign.serving.placement import Adapter
from autoalign.serving.spec import EngineSpec

_LONGEST = 1_000_000


class _Body(BaseModel):
    model_config = ConfigDict(strict=True)
    model: str


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Any] | None = None


class _StreamOptions(BaseModel):
    include_usage: bool | None = False


class _Generate(_Body):
    max_tokens: Annotated[int, Field(ge=1, le=_LONGEST)] | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None


class _Chat(_Generate):
    messages: Annotated[list[_Message], Field(min_length=1)]


class _Completion(_Generate):
    prompt: str


class _Tokenize(_Body):
    prompt: str | None = None
    messages: Annotated[list[_Message], Field(min_length=1)] | None = None


class _Detokenize(_Body):
    tokens: list[Annotated[int, Field(ge=0, le=255)]]


class FakeServed:
    """Says words."""

    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    errored = False

    def __init__(self, spec: EngineSpec, settings: dict[str, Any]) -> None:
        self._spec, self._said = spec, 0
        self._seconds = float(settings.get("seconds_per_word", 0))
        self._app = FastAPI()
        self._app.add_exception_handler(RequestValidationError, _refuse)
        for path, answer in (
            ("/v1/chat/completions", self._chat),
            ("/v1/completions", self._complete),
            ("/tokenize", _tokenize),
            ("/detokenize", _detokenize),
        ):
            self._app.add_api_route(path, answer, methods=["POST"], response_model=None)

    @property
    def app(self) -> ASGIApp:
        """Chat, completions and tokens."""
        return self._app

    async def load_adapter(self, adapter: Adapter) -> None:
        """Any folder will do."""

    def close(self) -> None:
        """Nothing is held."""

    async def _chat(self, body: _Chat) -> Response:
        if body.messages[-1].content == "count":
            return JSONResponse(_answer("chat.completion", body.model, _message(str(self._said)), 1))
        return await self._generate(body, "chat.completion")

    async def _complete(self, body: _Completion) -> Response:
        return await self._generate(body, "text_completion")

    async def _generate(self, body: _Generate, kind: str) -> Response:
        words = body.max_tokens or 3
        if body.stream:
            return StreamingResponse(self._events(body, kind, words), media_type="text/event-stream")
        text = "".join([word async for word in self._words(body.model, words)])
        choice = _message(text) if kind == "chat.completion" else {"text": text, "logprobs": None}
        return JSONResponse(_answer(kind, body.model, choice, words))

    async def _words(self, model: str, count: int) -> AsyncIterator[str]:
        first = [f"{model} ", f"{self._spec.digest[:8]} ", f"{os.getpid()} "]
        for number in range(count):
            if self._seconds:
                await asyncio.sleep(self._seconds)
            self._said += 1
            yield first[number] if number < len(first) else "word "

    async def _events(self, body: _Generate, kind: str, count: int) -> AsyncIterator[str]:
        chat = kind == "chat.completion"
        event = {"id": "x", "object": f"{kind}.chunk" if chat else kind, "created": 0, "model": body.model}
        async for word in self._words(body.model, count):
            said = {"delta": {"content": word}} if chat else {"text": word, "logprobs": None}
            choice = {"index": 0, **said, "finish_reason": None}
            yield f"data: {json.dumps({**event, 'choices': [choice]})}\n\n"
        if body.stream_options is not None and body.stream_options.include_usage:
            yield f"data: {json.dumps({**event, 'choices': [], 'usage': _usage(count)})}\n\n"
        yield "data: [DONE]\n\n"


def _message(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def _answer(kind: str, model: str, choice: dict[str, Any], words: int) -> dict[str, Any]:
    return {
        "id": "x",
        "object": kind,
        "created": 0,
        "model": model,
        "choices": [{"index": 0, **choice, "finish_reason": "length"}],
        "usage": _usage(words),
    }


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}


async def _tokenize(body: _Tokenize) -> Response:
    if body.prompt is None and body.messages is None:
        return _refusal("prompt or messages are expected")
    tokens = list((body.prompt or "").encode())
    return JSONResponse({"count": len(tokens), "max_model_len": _LONGEST, "tokens": tokens})


async def _detokenize(body: _Detokenize) -> Response:
    return JSONResponse({"prompt": bytes(body.tokens).decode("utf-8", "replace")})


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _refusal(str(error.errors()[0]["msg"]))


def _refusal(message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": 400}}, 400)


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
