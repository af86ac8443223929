"""TRL's preference formats: messages or text, the prompt given or repeated in both answers.

    {"prompt": [{"role": "user", "content": "Tell me about Beethoven."}],
     "chosen": [{"role": "assistant", "content": "A German composer."}],
     "rejected": [{"role": "assistant", "content": "No idea."}]}
    {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}

https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

from typing import Any

from autoalign.formats._records import base_row, pair, split_pair, text_or_turns
from autoalign.formats._turns import dump_openai, parse_turns
from autoalign.formats._types import Kind, Row
from autoalign.records import PreferencePair

KIND: Kind = "preference"
FIELDS = ("prompt", "chosen", "rejected")


def matches(row: Row) -> bool:
    """`chosen` and `rejected` as lists of `{role, content}`, or as text beside a `prompt`."""
    if "conversations" in row or "rejected" not in row or "chosen" not in row:
        return False
    sides = [row["chosen"], row["rejected"]]
    if any(isinstance(side, str) for side in sides):
        return "prompt" in row
    turns = [turn for side in sides if isinstance(side, list) for turn in side]
    return any(isinstance(turn, dict) and turn.get("role") is not None for turn in turns)


def parse(row: Row) -> PreferencePair:
    """The prompt, or where there is none what both answers begin with."""
    prompt = () if row.get("prompt") is None else parse_turns(row["prompt"], "prompt", role="user")
    chosen = parse_turns(row.get("chosen"), "chosen", role="assistant")
    rejected = parse_turns(row.get("rejected"), "rejected", role="assistant")
    return pair(row, split_pair(prompt, chosen, rejected), FIELDS)


def dump(record: PreferencePair) -> dict[str, Any]:
    """Every pair fits: text where all three parts are plain text, else messages (TRL wants one kind)."""
    parts = {"prompt": record.prompt, "chosen": record.chosen, "rejected": record.rejected}
    texts = [text_or_turns(part, "user" if key == "prompt" else "assistant") for key, part in parts.items()]
    if all(isinstance(text, str) for text in texts):
        return {**base_row(record), **dict(zip(parts, texts, strict=True))}
    return {**base_row(record), **{key: dump_openai(part) for key, part in parts.items()}}
