"""An answer apart from the reasoning in front of it."""

from __future__ import annotations

from typing import NamedTuple

OPENS, CLOSES = "<think>", "</think>"


class Reasoned(NamedTuple):
    """`reasoning` is None where the model wrote none."""

    reasoning: str | None
    answer: str


def split_reasoning(text: str) -> Reasoned:
    """`<think>A</think>B` is A and B.

    Templates that open the block themselves leave `A</think>B`; an answer that was cut off inside the
    block is all reasoning.
    """
    before, closed, after = text.partition(CLOSES)
    opened = before.lstrip().startswith(OPENS)
    if not closed and not opened:
        return Reasoned(None, text)
    return Reasoned(before.lstrip().removeprefix(OPENS).strip(), after.strip())
