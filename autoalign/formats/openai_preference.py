"""OpenAI's format for preference fine-tuning (DPO).

    {"input": {"messages": [{"role": "user", "content": "Tell me about Beethoven."}]},
     "preferred_output": [{"role": "assistant", "content": "A German composer."}],
     "non_preferred_output": [{"role": "assistant", "content": "No idea."}]}

https://platform.openai.com/docs/api-reference/fine-tuning/preference-input
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoalign.errors import DataError
from autoalign.formats._records import base_row, pair
from autoalign.formats._turns import dump_openai, parse_turns
from autoalign.formats._types import Kind, Row, describe
from autoalign.records import PreferencePair

KIND: Kind = "preference"
FIELDS = ("input.messages", "preferred_output", "non_preferred_output")
INPUT_KEYS = ("tools", "parallel_tool_calls")


def matches(row: Row) -> bool:
    """`preferred_output` or `non_preferred_output`."""
    return "preferred_output" in row or "non_preferred_output" in row


def parse(row: Row) -> PreferencePair:
    """The prompt under `input.messages`; `input`'s tools are the record's."""
    given = row.get("input")
    if not isinstance(given, Mapping):
        raise DataError(f"an object with 'messages' is expected, found {describe(given)}", field="input")
    prompt = parse_turns(given.get("messages"), "input.messages")
    chosen = parse_turns(row.get("preferred_output"), "preferred_output")
    rejected = parse_turns(row.get("non_preferred_output"), "non_preferred_output")
    beside = {key: given[key] for key in INPUT_KEYS if given.get(key) is not None}
    return pair({**row, **beside}, (prompt, chosen, rejected), ("input", *FIELDS))


def dump(record: PreferencePair) -> dict[str, Any]:
    """Every pair fits."""
    row = base_row(record)
    beside = {key: row.pop(key) for key in INPUT_KEYS if key in row}
    return {
        **row,
        "input": {"messages": dump_openai(record.prompt), **beside},
        "preferred_output": dump_openai(record.chosen),
        "non_preferred_output": dump_openai(record.rejected),
    }
