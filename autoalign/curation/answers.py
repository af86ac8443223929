"""What is judged: a row as it stands in its file, and the answers in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from autoalign import formats
from autoalign.errors import DataError
from autoalign.formats import RawRow
from autoalign.records import Conversation, LabelledAnswer, Message, messages_to_dicts

# Where a row may hold the answer that is known to be right, in the order of search.
REFERENCE_KEYS = ("reference", "extra.reference", "extra.answer", "extra.solution")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, and what is known about it.

    Attributes:
        conversation: the prompt with the answer behind it.
        size: how many messages at its end are the answer.
        row: the fields of its row.
        side: "" for a row of one answer, else "chosen" or "rejected".
        group: the same for answers to the same prompt (of a pair: for its two sides alone).
    """

    conversation: Conversation
    size: int
    row: Mapping[str, Any]
    side: str = ""
    group: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What was asked."""
        return self.conversation.messages[: -self.size]

    @property
    def text(self) -> str:
        """What the assistant said last."""
        return self.conversation.messages[-1].content


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A row of the input with its answers: one, or a pair's chosen and rejected one."""

    fields: Mapping[str, Any]
    answers: tuple[Answer, ...]

    @property
    def place(self) -> tuple[str, int]:
        """File and line."""
        conversation = self.answers[0].conversation
        return conversation.source, conversation.line


def read(
    paths: Sequence[str], format: str | None, on_problem: Callable[[DataError, RawRow], None]
) -> Iterator[AnswerRow]:
    """The rows of all files, in order, one at a time.

    Raises:
        DataError: a file cannot be read; a bad row goes to `on_problem`.
    """
    for raw, record in formats.iter_rows(paths, format=format, on_problem=on_problem):
        yield AnswerRow(raw.value, _answers(record, raw.value))


def windows(rows: Iterator[AnswerRow], size: int) -> Iterator[list[AnswerRow]]:
    """Lists of about `size` rows; answers to the same prompt that stand together stay together."""
    window = list(islice(rows, size))
    while window:
        later = next(rows, None)
        while later is not None and later.answers[0].group == window[-1].answers[0].group:
            window.append(later)
            later = next(rows, None)
        yield window
        window = [] if later is None else [later, *islice(rows, size - 1)]


def find(row: Mapping[str, Any], dotted: str) -> Any:
    """The value at `extra.reference` and the like; None where there is none."""
    value: Any = row
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def prompt_key(messages: Sequence[Message]) -> str:
    """The same for equal prompts, and for no others."""
    text = json.dumps(messages_to_dicts(messages), ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _answers(record: formats.Record, row: Mapping[str, Any]) -> tuple[Answer, ...]:
    if isinstance(record, LabelledAnswer):
        record = Conversation(record.id, record.messages, record.source, record.line, record.tools)
    if isinstance(record, Conversation):
        key = prompt_key(record.messages[:-1])
        return (Answer(record, 1, row, group=key),)
    key = f"{record.source}:{record.line}"
    return tuple(
        Answer(
            Conversation(record.id, (*record.prompt, *turns), record.source, record.line),
            len(turns),
            row,
            side,
            key,
        )
        for side, turns in (("chosen", record.chosen), ("rejected", record.rejected))
    )
