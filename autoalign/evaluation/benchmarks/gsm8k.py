"""Grade-school maths (arXiv:2110.14168), without examples: is the last number of the answer the right one?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.results import result_of
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools

FILE = "gsm8k/test.jsonl"
MAX_NEW_TOKENS = 512
_PROMPT = "{question}\nThink step by step, and write the final number behind ####."


def read(path: Path) -> Iterator[Ask]:
    """`question`, and `answer` with the number behind `####`."""
    for row in rows_of(path):
        prompt = _PROMPT.format(question=row.text("question"))
        yield Ask(str(row.line), (prompt,), {"reference": row.text("answer")})


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """The share of right numbers."""
    questions = tools.scored_by("numeric", answered, {})
    return Scored((result_of(tools.name, "accuracy", questions),), tuple(questions))
