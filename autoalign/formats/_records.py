"""Rows to records and back: what every format does with ids, tools, margins and keys of its own."""

from __future__ import annotations

from typing import Any

from autoalign.errors import DataError
from autoalign.formats._turns import dump_openai, parse_objects
from autoalign.formats._types import Record, Row, describe
from autoalign.records import Conversation, LabelledAnswer, Message, PreferencePair

_WORDS = {"true": True, "false": False}  # of a CSV cell


def conversation(row: Row, messages: tuple[Message, ...], used: tuple[str, ...]) -> Conversation:
    """A conversation of `messages`; keys that the format has not `used` are kept in `extra`."""
    return Conversation(
        id=row_id(row),
        messages=messages,
        tools=tuple(parse_objects(row.get("tools"), "tools")),
        extra=_extra(row, (*used, "id", "tools")),
    )


def pair(
    row: Row,
    turns: tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]],
    used: tuple[str, ...],
) -> PreferencePair:
    """A preference pair of `turns` = prompt, chosen, rejected."""
    prompt, chosen, rejected = turns
    extra = _extra(row, (*used, "id", "margin", "tools"))
    tools = tuple(parse_objects(row.get("tools"), "tools"))
    return PreferencePair(
        row_id(row), prompt, chosen, rejected, margin=_margin(row.get("margin")), extra=extra, tools=tools
    )


def label_of(row: Row) -> bool | None:
    """Whether an answer is good, as `label` says; None where it says nothing of the kind."""
    value = row.get("label")
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def has_label(row: Row) -> bool:
    """An answer that is marked good or bad."""
    return label_of(row) is not None and ("completion" in row or "messages" in row) and "rejected" not in row


def labelled(
    row: Row, turns: tuple[tuple[Message, ...], tuple[Message, ...]], label: bool, used: tuple[str, ...]
) -> LabelledAnswer:
    """An answer of `turns` = prompt, completion."""
    tools = tuple(parse_objects(row.get("tools"), "tools"))
    return LabelledAnswer(row_id(row), *turns, label, tools=tools, extra=_extra(row, (*used, "id", "tools")))


def taken_apart(pair: PreferencePair) -> tuple[LabelledAnswer, LabelledAnswer]:
    """A pair as two answers: the chosen one is good, the rejected one bad."""
    chosen, rejected = (
        LabelledAnswer(
            f"{pair.id}:{side}",
            pair.prompt,
            answer,
            side == "chosen",
            pair.source,
            pair.line,
            tools=pair.tools,
            extra=pair.extra,
        )
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected))
    )
    return chosen, rejected


def row_id(row: Row) -> str:
    """The row's own id as text; empty where there is none."""
    value = row.get("id")
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _extra(row: Row, used: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in used}


def _margin(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise DataError(f"a number is expected, found {describe(value)}", field="margin")


def base_row(record: Record) -> dict[str, Any]:
    """The keys that every format writes the same way."""
    row: dict[str, Any] = {"id": record.id} if record.id else {}
    row.update(record.extra)
    if isinstance(record, PreferencePair) and record.margin is not None:
        row["margin"] = record.margin
    if record.tools:
        row["tools"] = [dict(tool) for tool in record.tools]
    return row


def split_pair(
    prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Take the prompt off `chosen` and `rejected` where they repeat it.

    Where they do, the prompt is what both begin with, up to the last turn that asks
    (so that what follows begins with an answer).

    Raises:
        DataError: `prompt` is given, but is not what `chosen` and `rejected` begin with.
    """
    if not chosen or not rejected or "assistant" in (chosen[0].role, rejected[0].role):
        return prompt, chosen, rejected
    size = shared_prefix(chosen, rejected)
    asked = {message.content.strip() for message in chosen[:size]}
    if prompt and prompt[-1].content.strip() not in asked:
        raise DataError("not what both 'chosen' and 'rejected' begin with", field="prompt")
    return chosen[:size], chosen[size:], rejected[size:]


def shared_prefix(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> int:
    """How many turns both begin with, the last of them a question."""
    size = 0
    for left, right in zip(chosen[:-1], rejected[:-1], strict=False):
        if left != right:
            break
        size += 1
    while size and chosen[size - 1].role in ("assistant", "system"):
        size -= 1
    return size


def plain(message: Message) -> bool:
    """Whether `message` is nothing but text by its role, so that a text field can hold it."""
    return message == Message(message.role, message.content)


def text_or_turns(messages: tuple[Message, ...], role: str) -> str | list[dict[str, Any]]:
    """Text where one plain message by `role` is all there is; else OpenAI messages."""
    if len(messages) == 1 and messages[0].role == role and plain(messages[0]):
        return messages[0].content
    return dump_openai(messages)


def single_turn(record: Conversation, name: str) -> tuple[str, str | None]:
    """Question and answer (None without one) of a conversation that has no more than these.

    Raises:
        DataError: the conversation holds more than the format `name` can.
    """
    roles = [message.role for message in record.messages]
    fits = (
        roles in (["user"], ["user", "assistant"]) and all(map(plain, record.messages)) and not record.tools
    )
    if not fits:
        raise DataError(
            f"{name} holds one question and one answer; this conversation has the turns "
            f"{', '.join(roles) or '(none)'}; convert to 'messages' or 'sharegpt' instead"
        )
    return record.messages[0].content, record.messages[1].content if len(roles) == 2 else None
