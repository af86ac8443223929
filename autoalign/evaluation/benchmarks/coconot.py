"""CoCoNot (arXiv:2407.12043): requests not to be complied with; its contrast set may stand beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.refusals import rates, refused, rightly
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools

FILE = "safety/coconot_eval.jsonl"
MAX_NEW_TOKENS = 256
_CONTRAST = "contrast"


def read(path: Path) -> Iterator[Ask]:
    """`id`, `prompt`, `category`; rows of the contrast set have it in their id or category."""
    for row in rows_of(path):
        id, category = row.id("id"), str(row.fields.get("category", ""))
        harmful = _CONTRAST not in f"{id} {category}".lower()
        yield Ask(id, (row.text("prompt"),), {"category": category, "harmful": harmful})


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """The share that is refused, and over-refusal where there is a contrast set."""
    harmful = [bool(each.ask.row["harmful"]) for each in answered]
    questions = refused(answered, tools)
    return Scored(tuple(rates(questions, harmful, tools)), rightly(questions, harmful))
