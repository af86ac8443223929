"""HarmBench's text behaviours (arXiv:2402.04249), asked as they are: which share is refused?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.refusals import rates, refused, rightly
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools

FILE = "safety/harmbench_behaviors_text_test.csv"
MAX_NEW_TOKENS = 256


def read(path: Path) -> Iterator[Ask]:
    """`Behavior`, `BehaviorID`, and the `ContextString` that some refer to."""
    for row in rows_of(path):
        context = row.fields.get("ContextString")
        behaviour = row.text("Behavior")
        prompt = f"{context}\n\n---\n\n{behaviour}" if isinstance(context, str) and context else behaviour
        yield Ask(row.id("BehaviorID"), (prompt,), {"category": row.fields.get("SemanticCategory")})


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """The share that is refused."""
    harmful = [True] * len(answered)
    questions = refused(answered, tools)
    return Scored(tuple(rates(questions, harmful, tools)), rightly(questions, harmful))
