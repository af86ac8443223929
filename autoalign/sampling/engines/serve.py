"""A deployment of ours that runs already: the OpenAI routes of a Ray Serve application.

The prompt is rendered and tokenised here, and its token ids go to `/v1/completions`, so that the deployment
adds nothing to them. What is read beside OpenAI's own fields (token ids as a prompt, `top_k`,
`stop_token_ids`, ...) are vLLM's: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from autoalign.errors import ConfigError
from autoalign.sampling.engines._endpoints import Endpoints
from autoalign.sampling.engines._serve_app import urls_of
from autoalign.sampling.engines.base import Completion, EngineOptions, GenerationRequest, RequestFailed

SUPPORTS = frozenset({"json_schema", "logprobs"})


class ServeEngine:
    """Sends token ids. `model` is the name that the deployment gives its model."""

    def __init__(self, endpoints: Endpoints, model: str) -> None:
        self._endpoints, self._model = endpoints, model

    async def generate(self, request: GenerationRequest) -> Completion:
        """One call."""
        response = await self._call(request, stream=False)
        if not response.choices:
            raise RequestFailed("the deployment sent no answer")
        choice, usage = response.choices[0], response.usage
        return Completion(
            text=choice.text,
            finish_reason=choice.finish_reason or "stop",
            prompt_tokens=len(request.token_ids),
            completion_tokens=usage.completion_tokens if usage else 0,
            logprobs=_logprobs(choice) if request.params.logprobs else None,
        )

    async def stream(self, request: GenerationRequest) -> AsyncIterator[str]:
        """Pieces as the deployment sends them."""
        async for chunk in await self._call(request, stream=True):
            if chunk.choices and chunk.choices[0].text:
                yield chunk.choices[0].text

    async def close(self) -> None:
        """Close the connections; the deployment stays up."""
        await self._endpoints.close()

    async def _call(self, request: GenerationRequest, stream: bool) -> Any:
        body = _body(request)

        def send(client: Any) -> Any:
            return client.completions.create(model=self._model, stream=stream, **body)

        def used(response: Any) -> int:
            return response.usage.total_tokens if response.usage else booked

        booked = len(request.token_ids) + request.params.max_new_tokens
        return await self._endpoints.call(send, booked, None if stream else used)


def _body(request: GenerationRequest) -> dict[str, Any]:
    params = request.params
    extra: dict[str, Any] = {
        "top_k": max(params.top_k, 0),
        "min_p": params.min_p,
        "repetition_penalty": params.repetition_penalty,
        "stop_token_ids": list(params.stop_token_ids),
        # The template has put the tokens that begin a text already.
        "add_special_tokens": False,
    }
    if params.json_schema is not None:
        schema = {"name": "answer", "schema": json.loads(params.json_schema)}
        extra["response_format"] = {"type": "json_schema", "json_schema": schema}
    body: dict[str, Any] = {
        "prompt": list(request.token_ids),
        "temperature": params.temperature,
        "top_p": params.top_p,
        "max_tokens": params.max_new_tokens,
        "extra_body": extra,
    }
    if params.stop:
        body["stop"] = list(params.stop)
    if request.seed is not None and not params.greedy:
        body["seed"] = request.seed
    if params.logprobs:
        body["logprobs"] = 0
    return body


def _logprobs(choice: Any) -> tuple[float, ...]:
    if choice.logprobs is None or choice.logprobs.token_logprobs is None:
        raise RequestFailed("the deployment sent no log-probs", retry=False)
    return tuple(float(value) for value in choice.logprobs.token_logprobs)


async def create(options: EngineOptions) -> ServeEngine:
    """Finds the deployment, and asks it for its models.

    Raises:
        ConfigError: no such application, or several models there and none of the name that was given.
    """
    urls = options.base_url or await urls_of(str(options.serve_app))
    endpoints = Endpoints(options, urls)
    found = await endpoints.call(lambda client: client.models.list(), booked=0)
    names = [model.id for model in found.data]
    if options.served_model in names:
        return ServeEngine(endpoints, str(options.served_model))
    if len(names) == 1:
        return ServeEngine(endpoints, names[0])
    await endpoints.close()
    raise ConfigError(
        f"{', '.join(urls)} serves {', '.join(names) or 'no model'}: name one of them with --model_name"
    )
