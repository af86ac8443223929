"""Single answers marked good or bad (TRL's unpaired preference format), for KTO.

    {"prompt": "The sky is", "completion": " blue.", "label": true}
    {"prompt": [{"role": "user", "content": "What colour is the sky?"}],
     "completion": [{"role": "assistant", "content": "Green."}], "label": false}
    {"messages": [{"role": "user", "content": "What colour is the sky?"},
                  {"role": "assistant", "content": "It is blue."}], "label": true}

https://huggingface.co/docs/trl/dataset_formats; LLaMA-Factory has the form with `messages`.
"""

from __future__ import annotations

from typing import Any

from autoalign.errors import DataError
from autoalign.formats._records import base_row, has_label, label_of, labelled, text_or_turns
from autoalign.formats._turns import dump_openai, parse_turns
from autoalign.formats._types import Kind, Row, describe
from autoalign.records import LabelledAnswer, Message

KIND: Kind = "unpaired"
FIELDS = ("prompt", "completion")


def matches(row: Row) -> bool:
    """`label`, true or false, beside `completion` or `messages`."""
    return has_label(row)


def parse(row: Row) -> LabelledAnswer:
    """Of `messages`, what follows the last question is the answer."""
    label = label_of(row)
    if label is None:
        raise DataError(f"true or false is expected, found {describe(row.get('label'))}", field="label")
    if "messages" in row:
        prompt, answer = _split(parse_turns(row["messages"], "messages"))
    else:
        prompt = parse_turns(row.get("prompt"), "prompt", role="user")
        answer = parse_turns(row.get("completion"), "completion", role="assistant")
    return labelled(row, (prompt, answer), label, ("prompt", "completion", "messages", "label"))


def _split(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    size = len(messages)
    while size and messages[size - 1].role != "user":
        size -= 1
    return messages[:size], messages[size:]


def dump(record: LabelledAnswer) -> dict[str, Any]:
    """Every answer fits: text where both parts are plain text, else messages (TRL wants one kind)."""
    prompt, completion = text_or_turns(record.prompt, "user"), text_or_turns(record.completion, "assistant")
    if not (isinstance(prompt, str) and isinstance(completion, str)):
        prompt, completion = dump_openai(record.prompt), dump_openai(record.completion)
    return {**base_row(record), "prompt": prompt, "completion": completion, "label": record.label}
