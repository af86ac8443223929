"""ShareGPT conversations.

    {"id": "0", "conversations": [{"from": "system", "value": "Be brief."},
                                  {"from": "human", "value": "Tell me about Beethoven."},
                                  {"from": "gpt", "value": "A German composer, 1770 to 1827."}]}

Also as LLaMA-Factory writes it: `system` and `tools` beside the conversation, and
`function_call` / `observation` turns.
"""

from __future__ import annotations

from typing import Any

from autoalign.formats._records import base_row, conversation
from autoalign.formats._turns import dump_sharegpt, parse_text, parse_turns
from autoalign.formats._types import Kind, Row
from autoalign.records import Conversation, Message

KIND: Kind = "sft"
FIELDS = ("conversations",)


def matches(row: Row) -> bool:
    """`conversations` without a preference."""
    return "conversations" in row and "rejected" not in row


def parse(row: Row) -> Conversation:
    """The turns under `conversations`, `system` in front of them."""
    messages = parse_turns(row.get("conversations"), "conversations")
    if row.get("system"):
        messages = (Message("system", parse_text(row["system"], "system")), *messages)
    return conversation(row, messages, ("conversations", "system"))


def dump(record: Conversation) -> dict[str, Any]:
    """Every conversation fits."""
    return {**base_row(record), "conversations": dump_sharegpt(record.messages)}
