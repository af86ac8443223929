"""OpenAI's chat format for supervised fine-tuning.

    {"messages": [{"role": "user", "content": "Tell me about Beethoven."},
                  {"role": "assistant", "content": "A German composer, 1770 to 1827."}]}

`tools`, `tool_calls`, `name` and `weight` (0: an answer that is not learned from) as in
https://platform.openai.com/docs/api-reference/fine-tuning/chat-input
"""

from __future__ import annotations

from typing import Any

from autoalign.formats._records import base_row, conversation, has_label
from autoalign.formats._turns import dump_openai, parse_turns
from autoalign.formats._types import Kind, Row
from autoalign.records import Conversation

KIND: Kind = "sft"
FIELDS = ("messages",)


def matches(row: Row) -> bool:
    """`messages` without a preference or a label."""
    return "messages" in row and "rejected" not in row and not has_label(row)


def parse(row: Row) -> Conversation:
    """The turns under `messages`."""
    return conversation(row, parse_turns(row.get("messages"), "messages"), ("messages",))


def dump(record: Conversation) -> dict[str, Any]:
    """Every conversation fits."""
    return {**base_row(record), "messages": dump_openai(record.messages)}
