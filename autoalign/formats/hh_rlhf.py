"""Anthropic's HH-RLHF pairs: two transcripts as text, which differ at their end.

    {"chosen": "\\n\\nHuman: Tell me about Beethoven.\\n\\nAssistant: A German composer.",
     "rejected": "\\n\\nHuman: Tell me about Beethoven.\\n\\nAssistant: No idea."}

Training a Helpful and Harmless Assistant with RLHF, arXiv:2204.05862.
"""

from __future__ import annotations

import re
from typing import Any

from autoalign.errors import DataError
from autoalign.formats._records import base_row, pair, plain, split_pair
from autoalign.formats._turns import parse_text
from autoalign.formats._types import Kind, Row
from autoalign.records import Message, PreferencePair, Role

KIND: Kind = "preference"
FIELDS = ("chosen", "chosen", "rejected")
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
SPEAKERS = {"user": "Human", "assistant": "Assistant"}


def matches(row: Row) -> bool:
    """`chosen` and `rejected` as text, without a prompt."""
    texts = isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str)
    return texts and "prompt" not in row and "conversations" not in row


def parse(row: Row) -> PreferencePair:
    """The prompt is the turns that both transcripts begin with."""
    chosen, rejected = (_transcript(row.get(key), key) for key in ("chosen", "rejected"))
    return pair(row, split_pair((), chosen, rejected), FIELDS)


def _transcript(value: object, field: str) -> tuple[Message, ...]:
    before, *parts = TURN.split(parse_text(value, field))
    if before.strip() or not parts:
        raise DataError(
            "a transcript that begins with a '\\n\\nHuman:' turn is expected, "
            f"found {(before.strip() or 'nothing')[:40]!r}",
            field=field,
        )
    turns = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(ROLES[speaker], text.strip()) for speaker, text in turns)


def dump(record: PreferencePair) -> dict[str, Any]:
    """Pairs of plain user and assistant turns.

    Raises:
        DataError: a system or tool turn, or a turn whose text looks like a new turn.
    """
    chosen = _text(record.prompt + record.chosen)
    return {**base_row(record), "chosen": chosen, "rejected": _text(record.prompt + record.rejected)}


def _text(messages: tuple[Message, ...]) -> str:
    for message in messages:
        if message.role not in SPEAKERS or not plain(message):
            raise DataError(
                f"hh_rlhf holds plain user and assistant turns; this pair has a {message.role} turn"
            )
        if TURN.search(message.content):
            raise DataError("hh_rlhf cannot hold a text with a 'Human:' or 'Assistant:' turn of its own")
    return "".join(f"\n\n{SPEAKERS[m.role]}: {m.content}" for m in messages)
