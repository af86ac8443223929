"""Any OpenAI-style chat endpoint: vLLM's server, our own platform, or OpenAI; several URLs share the load.

Limits, tries and waits are those of `_endpoints`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from autoalign.sampling.engines._endpoints import Endpoints
from autoalign.sampling.engines.base import Completion, EngineOptions, GenerationRequest, RequestFailed

SUPPORTS = frozenset({"json_schema", "logprobs"})
_CHARACTERS_A_TOKEN = 4  # a guess, until the endpoint has counted


class OpenAIEngine:
    """Sends messages, not token ids: the endpoint renders the prompt with its own template."""

    def __init__(self, options: EngineOptions) -> None:
        self._model = options.model
        self._endpoints = Endpoints(options, options.base_url)

    async def generate(self, request: GenerationRequest) -> Completion:
        """One call; `prompt_tokens` and `completion_tokens` are what the endpoint counted (0: it did not)."""
        response = await self._call(request, stream=False)
        if not response.choices:
            raise RequestFailed("the endpoint sent no answer")
        choice, usage = response.choices[0], response.usage
        if choice.message.content is None:
            raise RequestFailed("the endpoint sent an answer without text", retry=False)
        return Completion(
            text=choice.message.content,
            finish_reason=choice.finish_reason or "stop",
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            logprobs=_logprobs(choice) if request.params.logprobs else None,
        )

    async def stream(self, request: GenerationRequest) -> AsyncIterator[str]:
        """Pieces as the endpoint sends them."""
        async for chunk in await self._call(request, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoints.close()

    async def _call(self, request: GenerationRequest, stream: bool) -> Any:
        body = _body(request)

        def send(client: Any) -> Any:
            return client.chat.completions.create(model=self._model, stream=stream, **body)

        def used(response: Any) -> int:
            return response.usage.total_tokens if response.usage else booked

        characters = sum(len(str(message.get("content") or "")) for message in request.messages)
        booked = characters // _CHARACTERS_A_TOKEN + request.params.max_new_tokens
        return await self._endpoints.call(send, booked, None if stream else used)


def _body(request: GenerationRequest) -> dict[str, Any]:
    """The request's fields; OpenAI's own endpoint refuses unknown ones, so only what differs is sent."""
    params = request.params
    body: dict[str, Any] = {
        "messages": [dict(message) for message in request.messages],
        "temperature": params.temperature,
        "top_p": params.top_p,
        "max_tokens": params.max_new_tokens,
    }
    if request.tools:
        body["tools"] = [dict(tool) for tool in request.tools]
    if params.stop:
        body["stop"] = list(params.stop)
    if request.seed is not None:
        body["seed"] = request.seed
    if params.logprobs:
        body["logprobs"] = True
    if params.json_schema is not None:
        schema = {"name": "answer", "schema": json.loads(params.json_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    extra = {
        "top_k": params.top_k if params.top_k > 0 else None,
        "min_p": params.min_p or None,
        "repetition_penalty": params.repetition_penalty if params.repetition_penalty != 1 else None,
    }
    if given := {key: value for key, value in extra.items() if value is not None}:
        body["extra_body"] = given
    return body


def _logprobs(choice: Any) -> tuple[float, ...]:
    if choice.logprobs is None or choice.logprobs.content is None:
        raise RequestFailed("the endpoint sent no log-probs", retry=False)
    return tuple(float(token.logprob) for token in choice.logprobs.content)


async def create(options: EngineOptions) -> OpenAIEngine:
    """Made at once; the endpoint is first asked with the first request."""
    return OpenAIEngine(options)
