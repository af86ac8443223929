"""Turns of a conversation in either spelling: `{from, value}` (ShareGPT) or `{role, content}` (OpenAI)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from autoalign.errors import DataError, nearest
from autoalign.formats._types import describe
from autoalign.records import Message, Role

ROLE_NAMES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
SHAREGPT_NAMES: dict[Role, str] = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


def parse_turns(value: object, field: str, role: Role | None = None) -> tuple[Message, ...]:
    """The turns under `field`: a list of them.

    Args:
        value: what the row holds there.
        field: where that is, for messages.
        role: where given, plain text or one turn alone is taken too, the text said by `role`.

    Raises:
        DataError: not turns, an unknown role, or content that is not text.
    """
    if role is not None and isinstance(value, str):
        return (Message(role, value),)
    if role is not None and isinstance(value, Mapping):
        return (_parse_turn(value, field),)
    if not isinstance(value, list):
        expected = "a list of turns" if role is None else "text or a list of turns"
        raise DataError(f"{expected} is expected, found {describe(value)}", field=field)
    return tuple(_parse_turn(item, f"{field}[{index}]") for index, item in enumerate(value))


def _parse_turn(item: object, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise DataError(f"a turn (an object) is expected, found {describe(item)}", field=field)
    role_key, text_key = ("from", "value") if item.get("from") is not None else ("role", "content")
    name = item.get(role_key)
    role = _parse_role(name, f"{field}.{role_key}")
    calls = tuple(parse_objects(item.get("tool_calls"), f"{field}.tool_calls"))
    text = item.get(text_key)
    if name == "function_call":
        calls, text = _function_calls(text, f"{field}.{text_key}"), ""
    return Message(
        role=role,
        content="" if text is None and calls else parse_text(text, f"{field}.{text_key}"),
        name=_optional_text(item.get("name"), f"{field}.name"),
        tool_calls=calls,
        tool_call_id=_optional_text(item.get("tool_call_id"), f"{field}.tool_call_id"),
        train=role != "assistant" or all(_parse_weight(item, key, field) for key in ("weight", "train")),
        reasoning=_parse_reasoning(item, field) if role == "assistant" else None,
    )


def _parse_role(name: object, field: str) -> Role:
    role = ROLE_NAMES.get(name) if isinstance(name, str) else None
    if role is not None:
        return role
    if name is None:
        raise DataError("no speaker; 'from' (ShareGPT) or 'role' (OpenAI) is expected", field=field)
    hint = nearest(name, ROLE_NAMES) if isinstance(name, str) else ""
    raise DataError(f"unknown role {name!r}{hint}; expected one of {', '.join(ROLE_NAMES)}", field=field)


def parse_text(value: object, field: str) -> str:
    """Text, or OpenAI's list of text parts joined.

    Raises:
        DataError: anything else, a picture or audio part among it.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_parse_part(part, f"{field}[{index}]") for index, part in enumerate(value))
    raise DataError(f"text is expected, found {describe(value)}", field=field)


def _parse_part(part: object, field: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise DataError(f"a content part (an object) is expected, found {describe(part)}", field=field)
    if part.get("type") != "text":
        raise DataError(
            f"a content part of type {part.get('type')!r}; only 'text' parts can be trained on", field=field
        )
    return parse_text(part.get("text"), f"{field}.text")


def parse_objects(value: object, field: str) -> list[Mapping[str, Any]]:
    """A list of objects (tools, tool calls), or the same as JSON text; nothing is an empty list."""
    if isinstance(value, str):
        value = _parse_json(value, field) if value.strip() else None
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        return value
    raise DataError(f"a list of objects is expected, found {describe(value)}", field=field)


def _parse_json(text: str, field: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"JSON text is expected here: {error}", field=field) from None


def _function_calls(value: object, field: str) -> tuple[Mapping[str, Any], ...]:
    """ShareGPT's `function_call` turn, `{"name", "arguments"}` as JSON text, in OpenAI's shape."""
    decoded = _parse_json(value, field) if isinstance(value, str) else value
    calls = decoded if isinstance(decoded, list) else [decoded]
    return tuple(_function_call(call, field) for call in calls)


def _function_call(call: object, field: str) -> Mapping[str, Any]:
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise DataError(
            f"a call with 'name' and 'arguments' is expected, found {describe(call)}", field=field
        )
    return {"type": "function", "function": dict(call)}


def _optional_text(value: object, field: str) -> str | None:
    return None if value is None else parse_text(value, field)


def _parse_weight(item: Mapping[str, Any], key: str, field: str) -> bool:
    value = item.get(key)
    if value is None:
        return True
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise DataError(f"0 (not learned from) or 1 is expected, found {describe(value)}", field=f"{field}.{key}")


def _parse_reasoning(item: Mapping[str, Any], field: str) -> str | None:
    key = next((key for key in REASONING_KEYS if item.get(key)), None)
    return None if key is None else parse_text(item[key], f"{field}.{key}")


def dump_openai(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """`{role, content}` turns; an answer that is not learned from carries OpenAI's `weight: 0`."""
    return [{**message.to_dict(), **_weight(message)} for message in messages]


def dump_sharegpt(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """`{from, value}` turns; names, tool calls and weights keep OpenAI's keys."""
    rows = []
    for message in messages:
        row = {**message.to_dict(), **_weight(message)}
        del row["role"], row["content"]
        rows.append({"from": SHAREGPT_NAMES[message.role], "value": message.content, **row})
    return rows


def _weight(message: Message) -> dict[str, int]:
    return {} if message.train else {"weight": 0}
