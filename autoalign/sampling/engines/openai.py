"""Any OpenAI-style chat endpoint: vLLM's server, our own platform, or OpenAI.

Waits that grow between tries are the client library's own (it honours `Retry-After`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from autoalign.errors import ConfigError, MissingDependency
from autoalign.sampling.engines.base import (
    Completion,
    EngineDead,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
)

# A request with one of these can't succeed later; 401/403/404 hold for every request alike.
_HOPELESS = frozenset({400, 409, 413, 415, 422})
_WRONG_ENDPOINT = frozenset({401, 403, 404})
SUPPORTS = frozenset({"json_schema", "logprobs"})


class OpenAIEngine:
    """Sends messages, not token ids: the endpoint renders the prompt with its own template."""

    def __init__(self, options: EngineOptions) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingDependency("the openai backend needs: pip install openai") from error
        key = os.environ.get(options.api_key_env)
        if key is None and options.base_url is None and "OPENAI_BASE_URL" not in os.environ:
            raise ConfigError(
                f"no API key: set the environment variable {options.api_key_env}, or give --base_url"
            )
        self._errors = openai
        self._model = options.model
        self._client = openai.AsyncOpenAI(
            # Local servers want none, but the client refuses to be made without a key.
            api_key=key or "none",
            base_url=options.base_url,
            max_retries=options.max_retries,
            timeout=options.timeout,
        )
        self._slots = asyncio.Semaphore(options.concurrency or 32)

    async def generate(self, request: GenerationRequest) -> Completion:
        """One call; `prompt_tokens` and `completion_tokens` are what the endpoint counted (0: it did not)."""
        async with self._slots:
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
        await self._client.close()

    async def _call(self, request: GenerationRequest, stream: bool) -> Any:
        errors = self._errors
        try:
            return await self._client.chat.completions.create(
                model=self._model, stream=stream, **_body(request)
            )
        except errors.APIStatusError as error:
            reason = f"the endpoint answered {error.status_code}: {_reason(error)}"
            if error.status_code in _WRONG_ENDPOINT:
                raise EngineDead(reason) from error
            raise RequestFailed(reason, retry=error.status_code not in _HOPELESS) from error
        except errors.APIConnectionError as error:
            cause = error.__cause__ or error
            raise RequestFailed(f"no answer from {self._client.base_url}: {cause}") from error


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


def _reason(error: Any) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(error.message)


async def create(options: EngineOptions) -> OpenAIEngine:
    """Made at once; the endpoint is first asked with the first request."""
    return OpenAIEngine(options)
