"""Alpaca instructions.

    {"instruction": "Translate into French.", "input": "Good morning.", "output": "Bonjour."}

The question is the instruction and, on the next line, the input. LLaMA-Factory's `system`
and `history` (`[[question, answer], ...]`) are read and written too.
"""

from __future__ import annotations

from typing import Any

from autoalign.errors import DataError
from autoalign.formats._records import base_row, conversation, plain
from autoalign.formats._turns import parse_text
from autoalign.formats._types import Kind, Row, describe
from autoalign.records import Conversation, Message

KIND: Kind = "sft"
FIELDS = ("instruction", "output")


def matches(row: Row) -> bool:
    """`instruction`, with or without `output`, without a preference."""
    return "instruction" in row and "rejected" not in row


def parse(row: Row) -> Conversation:
    """System, earlier questions and answers, then the instruction with its input, and the output."""
    messages = [Message("system", parse_text(row["system"], "system"))] if row.get("system") else []
    messages += _history(row.get("history") or [])
    question = parse_text(row.get("instruction"), "instruction")
    if row.get("input"):
        question = f"{question}\n{parse_text(row['input'], 'input')}"
    messages.append(Message("user", question))
    if row.get("output") is not None:
        messages.append(Message("assistant", parse_text(row["output"], "output")))
    return conversation(row, tuple(messages), ("instruction", "input", "output", "system", "history"))


def _history(value: object) -> list[Message]:
    rounds = value if isinstance(value, list) else [value]
    messages = []
    for index, pair in enumerate(rounds):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(
                f"[question, answer] is expected, found {describe(pair)}", field=f"history[{index}]"
            )
        messages.append(Message("user", parse_text(pair[0], f"history[{index}][0]")))
        messages.append(Message("assistant", parse_text(pair[1], f"history[{index}][1]")))
    return messages


def dump(record: Conversation) -> dict[str, Any]:
    """Conversations of questions and answers in turn, with a system message or without.

    Raises:
        DataError: tools, answers that are not learned from, or turns in another order.
    """
    messages = record.messages
    row = base_row(record)
    if messages and messages[0].role == "system":
        row["system"], messages = messages[0].content, messages[1:]
    roles = [message.role for message in messages]
    in_turn = bool(roles) and roles == (["user", "assistant"] * len(roles))[: len(roles)]
    if not in_turn or record.tools or not all(map(plain, record.messages)):
        raise DataError(
            f"alpaca holds questions and answers in turn; this conversation has "
            f"{', '.join(roles) or 'no turns'}; convert to 'messages' or 'sharegpt' instead"
        )
    texts = [message.content for message in messages]
    last = (len(texts) - 1) // 2 * 2
    row.update(instruction=texts[last], input="")
    if last:
        row["history"] = [texts[index : index + 2] for index in range(0, last, 2)]
    if last + 1 < len(texts):
        row["output"] = texts[last + 1]
    return row
