"""Question and answer, as GSM8K has them.

{"question": "What is 2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}
"""

from __future__ import annotations

from typing import Any

from autoalign.formats._records import base_row, conversation, single_turn
from autoalign.formats._turns import parse_text
from autoalign.formats._types import Kind, Row
from autoalign.records import Conversation, Message

KIND: Kind = "sft"
FIELDS = ("question", "answer")


def matches(row: Row) -> bool:
    """`question`, with or without `answer`, without a preference."""
    return "question" in row and "rejected" not in row


def parse(row: Row) -> Conversation:
    """The question, and the answer where there is one."""
    messages = [Message("user", parse_text(row.get("question"), "question"))]
    if row.get("answer") is not None:
        messages.append(Message("assistant", parse_text(row["answer"], "answer")))
    return conversation(row, tuple(messages), FIELDS)


def dump(record: Conversation) -> dict[str, Any]:
    """Conversations of one question and one answer.

    Raises:
        DataError: the conversation holds more.
    """
    question, answer = single_turn(record, "question_answer")
    row = {**base_row(record), "question": question}
    return row if answer is None else {**row, "answer": answer}
