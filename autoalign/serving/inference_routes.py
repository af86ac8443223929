"""OpenAI's inference routes, and vLLM's two for tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from autoalign.serving.access import principal_of
from autoalign.serving.catalogue import Served
from autoalign.serving.forwarding import Forwarder
from autoalign.serving.openai_error import error_body
from autoalign.serving.placement import unknown_model
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
        router.post(path, summary=summary, response_class=Response, openapi_extra=_described(path))(forward)

    @router.get(
        "/v1/models", summary="models that a request may name", responses=_refusals("401", "403", "429")
    )
    async def list_models() -> JSONResponse:
        data = [_model(each) for each in await visibility.everybodys()]
        return JSONResponse({"object": "list", "data": data})

    known = _refusals("400", "401", "403", "404", "429")

    @router.get("/v1/models/{model:path}", summary="one model", responses=known)
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
_IDS = {"type": "array", "items": {"type": "integer"}}
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"enum": ["system", "user", "assistant", "tool"]}, "content": _TEXT},
    },
}
_BODIES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "/v1/chat/completions": (["messages"], {"messages": _MESSAGES}),
    "/v1/completions": (["prompt"], {"prompt": _TEXT}),
    "/v1/embeddings": (["input"], {"input": _TEXT}),
    "/tokenize": ([], {"prompt": _TEXT, "messages": _MESSAGES}),
    "/detokenize": (["tokens"], {"tokens": _IDS}),
}
_ANSWERS = {
    "400": "the request is wrong, or beyond this model",
    "401": "no valid token",
    "403": "the token lacks the scope",
    "404": "no such model",
    "413": "the body is too long",
    "422": "the request is wrong",
    "429": "the queue is full, or the token's rate is used up; Retry-After says when to go on",
    "503": "the model can't be loaded, or its engine went away",
}


def _described(path: str) -> dict[str, Any]:
    """The route in our OpenAPI document: the fields that matter; OpenAI's reference has the others."""
    required, fields = _BODIES[path]
    schema = {"type": "object", "required": required, "properties": {"model": _TEXT, **fields}}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _refusals(*_ANSWERS),
    }


def _refusals(*statuses: str) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _ANSWERS[status]} for status in statuses}
