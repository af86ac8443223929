"""AutoAlign preference pairs: both continuations repeat the prompt.

{"prompt": "Tell me about Beethoven.",
 "chosen": [{"from": "human", "value": "Tell me about Beethoven."},
            {"from": "gpt", "value": "A German composer, 1770 to 1827."}],
 "rejected": [{"from": "human", "value": "Tell me about Beethoven."},
              {"from": "gpt", "value": "I know nothing about Beethoven."}]}
"""

from __future__ import annotations

from typing import Any

from autoalign.formats._records import base_row, pair, split_pair
from autoalign.formats._turns import dump_sharegpt, parse_turns
from autoalign.formats._types import Kind, Row
from autoalign.records import PreferencePair

KIND: Kind = "preference"
FIELDS = ("prompt", "chosen", "rejected")


def matches(row: Row) -> bool:
    """`chosen` and `rejected` as lists of `{from, value}`, without `conversations`."""
    if "conversations" in row or "rejected" not in row or not isinstance(row.get("chosen"), list):
        return False
    turns = [*row["chosen"], *(row["rejected"] if isinstance(row["rejected"], list) else [])]
    return not any(isinstance(turn, dict) and turn.get("role") is not None for turn in turns)


def parse(row: Row) -> PreferencePair:
    """The prompt is what both begin with; `prompt` alone where they hold the answers only."""
    prompt = () if row.get("prompt") is None else parse_turns(row["prompt"], "prompt", role="user")
    chosen = parse_turns(row.get("chosen"), "chosen")
    rejected = parse_turns(row.get("rejected"), "rejected")
    return pair(row, split_pair(prompt, chosen, rejected), FIELDS)


def dump(record: PreferencePair) -> dict[str, Any]:
    """Every pair fits; `prompt` is the last question."""
    questions = [message.content for message in record.prompt if message.role == "user"]
    return {
        **base_row(record),
        "prompt": questions[-1] if questions else "",
        "chosen": dump_sharegpt(record.prompt + record.chosen),
        "rejected": dump_sharegpt(record.prompt + record.rejected),
    }
