"""OpenAI's inference routes, and vLLM's two for tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from autoalign.serving.access import principal_of
from autoalign.serving.api_route import documented
from autoalign.serving.catalogue import Served
from autoalign.serving.forwarding import Forwarder
from autoalign.serving.openai_error import error_body
from autoalign.serving.placement import LONGEST_NAME, unknown_model
from autoalign.serving.visibility import Visibility

FORWARDED = {
    "/v1/chat/completions": "the next message of a conversation",
    "/v1/completions": "the continuation of a text",
    "/v1/embeddings": "vectors of texts, where the model can",
    "/tokenize": "token ids of a text or a conversation",
    "/detokenize": "the text of token ids",
}


def inference_router(forwarder: Forwarder, visibility: Visibility) -> APIRouter:
    """The routes that engines answer, and the list of models."""
    router = APIRouter(tags=["inference"])

    async def forward(request: Request) -> Response:
        return await forwarder.answer(request)

    for path, summary in FORWARDED.items():
        router.post(
            path,
            summary=summary,
            response_class=Response,
            responses=documented(404),
            openapi_extra=_described(path),
        )(forward)

    @router.get("/v1/models", summary="models that a request may name", responses=documented())
    async def list_models() -> JSONResponse:
        data = [_model(each) for each in await visibility.everybodys()]
        return JSONResponse({"object": "list", "data": data})

    @router.get("/v1/models/{model:path}", summary="one model", responses=documented(404))
    async def retrieve_model(request: Request, model: str) -> Response:
        found = await visibility.find(principal_of(request), model)
        if found is None:
            refusal = unknown_model(model)
            return JSONResponse(error_body(refusal.message, code=refusal.code), refusal.status)
        return JSONResponse(_model(found))

    return router


def _model(served: Served) -> dict[str, Any]:
    """OpenAI's model object; an adapter's `parent` is its base model."""
    card: dict[str, Any] = {
        "id": served.id,
        "object": "model",
        "created": served.created,
        "owned_by": "autoalign",
    }
    return card if served.base is None else {**card, "parent": served.base.rstrip("/").rsplit("/", 1)[-1]}


_TEXT = {"type": "string"}
_NAME = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"type": ["string", "array", "null"]},
        },
    },
}
_GENERATE = {
    "max_tokens": {"type": ["integer", "null"], "minimum": 1},
    "stream": {"type": ["boolean", "null"]},
}
_BODIES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "/v1/chat/completions": (["messages"], {"messages": _MESSAGES, **_GENERATE}),
    "/v1/completions": (["prompt"], {"prompt": _TEXT, **_GENERATE}),
    "/v1/embeddings": (["input"], {"input": _TEXT}),
    "/tokenize": ([], {"prompt": _TEXT, "messages": _MESSAGES}),
    "/detokenize": (["tokens"], {"tokens": _IDS}),
}
_STREAMED = ("/v1/chat/completions", "/v1/completions")


def _described(path: str) -> dict[str, Any]:
    """The route in our OpenAPI document: the fields that matter; OpenAI's reference has the others."""
    required, fields = _BODIES[path]
    schema = {"type": "object", "required": required, "properties": {"model": _NAME, **fields}}
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if path in _STREAMED:
        answer["text/event-stream"] = {}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "the answer, as OpenAI's API or vLLM's has it", "content": answer}
        },
    }
