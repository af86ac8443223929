"""A request for an engine, as the client sent it and as the engine gets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from autoalign.jobs.nesting import is_deeper
from autoalign.serving.engines import Refused
from autoalign.serving.leases import Grant
from autoalign.serving.placement import Refusal, is_name

CHAT = "/v1/chat/completions"
_STREAMED = (CHAT, "/v1/completions")
_DEEPEST = 200  # levels; orjson reads 1024 of them, and writes 254
# What clients may not say: a template is code, and the rest speaks to parts that are not there.
_CLOSED = ("chat_template", "kv_transfer_params", "mm_processor_kwargs", "media_io_kwargs", "vllm_xargs")


def parse(content: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        Refused: no JSON object, one nested too deep, or a field that is not for clients.
    """
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Refused(Refusal(400, f"The body is not valid JSON: {error}.", "invalid_json")) from None
    if not isinstance(body, dict):
        raise Refused(Refusal(400, "The body must be a JSON object.", "invalid_json"))
    # Few brackets can't be deep: most bodies are not walked through.
    if content.count(b"{") + content.count(b"[") > _DEEPEST and is_deeper(body, _DEEPEST):
        raise Refused(Refusal(400, f"The body is nested deeper than {_DEEPEST} levels.", "invalid_json"))
    for name in _CLOSED:
        if body.get(name) is not None:
            raise Refused(Refusal(400, f"'{name}' can't be set by a request.", "unsupported_parameter"))
    return body


def model_of(body: Mapping[str, Any], default: str | None) -> str:
    """Which model a request names; one without a name gets the default.

    Raises:
        Refused: there is no default, or the name is no text.
    """
    name = body.get("model", default)
    if not isinstance(name, str) or not name:
        raise Refused(Refusal(400, "'model' is missing: name one of GET /v1/models.", "missing_model"))
    if not is_name(name):
        raise Refused(Refusal(404, "No model has a name like this 'model'.", "model_not_found"))
    return name


def hides_usage(body: Mapping[str, Any], path: str) -> bool:
    """Whether the engine is asked for a stream's usage, for the figures, that the client did not ask for."""
    if path not in _STREAMED or body.get("stream") is not True:
        return False
    return body.get("stream_options") in (None, {}, {"include_usage": False}, {"include_usage": None})


def for_engine(body: Mapping[str, Any], path: str, grant: Grant) -> bytes:
    """The request under the engine's name for the model; a chat also ends where its template says."""
    changed: dict[str, Any] = {**body, "model": grant.model}
    if hides_usage(body, path):
        changed["stream_options"] = {"include_usage": True}
    if path == CHAT:
        changed["stop"] = _joined(body.get("stop"), grant.stop)
        changed["stop_token_ids"] = _joined(body.get("stop_token_ids"), grant.stop_token_ids)
        if grant.chat_template is not None:
            changed["chat_template"] = grant.chat_template
    return orjson.dumps(changed)


def _joined(asked: Any, own: tuple[Any, ...]) -> Any:
    """Both lists; what is neither a list nor a text goes on as it is, for the engine to refuse."""
    if not own:
        return asked
    if asked is None or isinstance(asked, str):
        return [*([asked] if asked else []), *own]
    return [*asked, *own] if isinstance(asked, list) else asked
