"""XSTest (arXiv:2308.01263): 250 harmless prompts that look harmful, and 200 harmful ones beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.refusals import rates, refused, rightly
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools

FILE = "safety/xstest.json"
MAX_NEW_TOKENS = 256


def read(path: Path) -> Iterator[Ask]:
    """`id`, `prompt`, `type`; the harmful ones' type begins with `contrast`."""
    for row in rows_of(path):
        kind = row.text("type")
        yield Ask(row.id("id"), (row.text("prompt"),), {"type": kind, "harmful": kind.startswith("contrast")})


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """Refusal of the harmful ones, and over-refusal: of the others."""
    harmful = [bool(each.ask.row["harmful"]) for each in answered]
    questions = refused(answered, tools)
    return Scored(tuple(rates(questions, harmful, tools)), rightly(questions, harmful))
