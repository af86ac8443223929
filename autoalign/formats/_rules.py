"""What a record must be to be trained on, or to be answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from autoalign.errors import DataError
from autoalign.formats._types import Format, Record, Row
from autoalign.records import Conversation, LabelledAnswer, Message, PreferencePair


def check_for_training(record: Record, row: Row, format_: Format) -> None:
    """Raise DataError, with its field, where `record` cannot be trained on."""
    places = _Places(row, format_.FIELDS)
    if isinstance(record, PreferencePair):
        _check_pair(record, places)
    elif isinstance(record, LabelledAnswer):
        _check_prompt(record.prompt, places)
        _check_answer(record.completion, places, part=1)
    else:
        _check_conversation(record.messages, places)


def check_for_judging(record: Record, format_: Format) -> None:
    """Raise DataError where `record` holds no answer to judge; an empty answer is one."""
    if isinstance(record, PreferencePair):
        ends = {1: record.chosen, 2: record.rejected}
        for part, answer in ends.items():
            if not answer or answer[-1].role != "assistant":
                raise DataError("an answer to score is expected", field=format_.FIELDS[part])
        return
    messages = record.messages if isinstance(record, Conversation) else record.completion
    last = messages[-1].role if messages else "nobody"
    if last != "assistant":
        raise DataError(
            f"the last turn is the {last}'s; an answer to score is expected", field=format_.FIELDS[-1]
        )


def as_prompt(record: Record, row: Row, format_: Format) -> Conversation:
    """The part of `record` that asks: the answers at its end are left out.

    Raises:
        DataError: nothing is asked.
    """
    messages = record.messages if isinstance(record, Conversation) else record.prompt
    size = len(messages)
    while size and messages[size - 1].role == "assistant":
        size -= 1
    asked = messages[:size]
    places = _Places(row, format_.FIELDS)
    if not asked or asked[-1].role not in ("user", "tool"):
        raise DataError("nothing to answer: no user turn at the end", field=format_.FIELDS[0])
    _check_order(asked, places, part=0, total=len(messages))
    if not isinstance(record, Conversation):
        return Conversation(record.id, asked, tools=record.tools, extra=record.extra)
    if size == len(messages):
        return record
    if "reference" in record.extra:
        return dataclasses.replace(record, messages=asked)
    # The answer that is left out is what the new ones may be held against.
    extra = {**record.extra, "reference": messages[-1].content}
    return dataclasses.replace(record, messages=asked, extra=extra)


class _Places:
    """Names the field of a message, as the row's author wrote it.

    A format may put messages in front of the row's list (a `system` key), or take a
    prompt off it; counting from the list's end finds the right turn all the same.
    """

    def __init__(self, row: Row, fields: tuple[str, ...]) -> None:
        self.row, self.fields = row, fields

    def of(self, part: int, index: int, total: int, role: str) -> str:
        """The message `index` of the `total` in `part` (0 prompt or conversation, 1 chosen, 2 rejected)."""
        if len(self.fields) == 2:
            return self.fields[role == "assistant"]
        name = self.fields[part]
        turns = _dig(self.row, name)
        if not isinstance(turns, list):
            return name
        place = index + len(turns) - total
        return f"{name}[{place}]" if place >= 0 else "system"


def _dig(row: Row, dotted: str) -> Any:
    value: Any = row
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_conversation(messages: tuple[Message, ...], places: _Places) -> None:
    _check_order(messages, places, part=0, total=len(messages))
    for index, message in enumerate(messages):
        if message.role == "assistant" and message.train and _says_nothing(message):
            raise DataError("the answer is empty", field=places.of(0, index, len(messages), "assistant"))
    if not any(message.role == "assistant" and message.train for message in messages):
        reason = "its answers all have weight 0" if any(m.role == "assistant" for m in messages) else ""
        raise DataError(
            f"no answer to train on{': ' + reason if reason else '; an assistant turn is expected'}",
            field=places.fields[-1],
        )


def _check_prompt(prompt: tuple[Message, ...], places: _Places) -> None:
    if not any(message.role == "user" for message in prompt):
        raise DataError("the prompt asks nothing: no user turn", field=places.fields[0])
    _check_order(prompt, places, part=0, total=len(prompt))


def _check_pair(pair: PreferencePair, places: _Places) -> None:
    _check_prompt(pair.prompt, places)
    for part, answer in ((1, pair.chosen), (2, pair.rejected)):
        _check_answer(answer, places, part)
    if pair.chosen == pair.rejected:
        raise DataError("chosen and rejected are equal; there is nothing to prefer", field=places.fields[2])


def _check_answer(answer: tuple[Message, ...], places: _Places, part: int) -> None:
    if not answer or all(map(_says_nothing, answer)):
        raise DataError("the answer is empty", field=places.fields[part])
    for index in (0, len(answer) - 1):
        if answer[index].role != "assistant":
            raise DataError(
                f"an answer begins and ends with an assistant turn, found {answer[index].role}",
                field=places.of(part, index, len(answer), answer[index].role),
            )
    _check_order(answer, places, part, total=len(answer))


def _check_order(messages: tuple[Message, ...], places: _Places, part: int, total: int) -> None:
    before = ""
    for index, message in enumerate(messages):
        role = message.role
        problem = None
        if role == "system" and (index or part):
            problem = "the system message must come first"
        elif role == before and role in ("user", "assistant"):
            problem = f"two {role} turns in a row"
        elif role == "user" and not message.content.strip():
            problem = "the user turn is empty"
        if problem:
            raise DataError(problem, field=places.of(part, index, total, role))
        before = role


def _says_nothing(message: Message) -> bool:
    return not message.content.strip() and not message.tool_calls
