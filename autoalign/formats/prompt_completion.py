"""Prompt and completion, as text or as messages.

    {"prompt": "The sky is", "completion": "blue."}
    {"prompt": [{"role": "user", "content": "What colour is the sky?"}],
     "completion": [{"role": "assistant", "content": "It is blue."}]}

Only the completion is learned from (https://huggingface.co/docs/trl/dataset_formats).
`response` is read as `completion`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from autoalign.errors import DataError
from autoalign.formats._records import base_row, conversation, has_label, text_or_turns
from autoalign.formats._turns import parse_turns
from autoalign.formats._types import Kind, Row
from autoalign.records import Conversation

KIND: Kind = "sft"
FIELDS = ("prompt", "completion")


def matches(row: Row) -> bool:
    """`prompt`, with or without `completion`, without a preference or a label."""
    return "prompt" in row and "rejected" not in row and not has_label(row)


def parse(row: Row) -> Conversation:
    """The prompt's turns, whose answers are not learned from, then the completion's."""
    prompt = parse_turns(row.get("prompt"), "prompt", role="user")
    messages = [dataclasses.replace(m, train=False) if m.role == "assistant" else m for m in prompt]
    for key in ("completion", "response"):
        if row.get(key) is not None:
            messages.extend(parse_turns(row[key], key, role="assistant"))
            break
    return conversation(row, tuple(messages), ("prompt", "completion", "response"))


def dump(record: Conversation) -> dict[str, Any]:
    """Conversations that are learned from in their last answer alone.

    Raises:
        DataError: an earlier answer is learned from too.
    """
    messages = record.messages
    size = len(messages) - 1 if messages and messages[-1].role == "assistant" else len(messages)
    if any(message.role == "assistant" and message.train for message in messages[:size]):
        raise DataError(
            "prompt_completion learns from the last answer alone, this conversation from several; "
            "convert to 'messages' or 'sharegpt' instead"
        )
    row = base_row(record)
    row["prompt"] = text_or_turns(messages[:size], "user")
    if size < len(messages):
        row["completion"] = text_or_turns(messages[size:], "assistant")
    return row
