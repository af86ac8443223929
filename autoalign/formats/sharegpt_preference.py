"""ShareGPT preference pairs, as LLaMA-Factory has them.

{"conversations": [{"from": "human", "value": "Tell me about Beethoven."}],
 "chosen": {"from": "gpt", "value": "A German composer, 1770 to 1827."},
 "rejected": {"from": "gpt", "value": "I know nothing about Beethoven."}}
"""

from __future__ import annotations

from typing import Any

from autoalign.formats._records import base_row, pair
from autoalign.formats._turns import dump_sharegpt, parse_text, parse_turns
from autoalign.formats._types import Kind, Row
from autoalign.records import Message, PreferencePair

KIND: Kind = "preference"
FIELDS = ("conversations", "chosen", "rejected")


def matches(row: Row) -> bool:
    """`conversations` with `rejected`."""
    return "conversations" in row and "rejected" in row


def parse(row: Row) -> PreferencePair:
    """The prompt under `conversations`; each answer one turn, several, or text."""
    prompt = parse_turns(row.get("conversations"), "conversations")
    if row.get("system"):
        prompt = (Message("system", parse_text(row["system"], "system")), *prompt)
    chosen = parse_turns(row.get("chosen"), "chosen", role="assistant")
    rejected = parse_turns(row.get("rejected"), "rejected", role="assistant")
    return pair(row, (prompt, chosen, rejected), (*FIELDS, "system"))


def dump(record: PreferencePair) -> dict[str, Any]:
    """Every pair fits; a single answer is written as one turn, as LLaMA-Factory reads it."""
    chosen, rejected = dump_sharegpt(record.chosen), dump_sharegpt(record.rejected)
    return {
        **base_row(record),
        "conversations": dump_sharegpt(record.prompt),
        "chosen": chosen[0] if len(chosen) == 1 else chosen,
        "rejected": rejected[0] if len(rejected) == 1 else rejected,
    }
