"""Functions to write (arXiv:2107.03374): does the program pass the hidden tests? It runs in the sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.results import result_of
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools
from autoalign.scoring.scorers.code import program_in

FILE = "humaneval/human-eval-v2-20210705.jsonl"
MAX_NEW_TOKENS = 768
_SECONDS = 3.0
_PROMPT = (
    "Complete this Python function. Answer with the whole function in one code block.\n```python\n{prompt}```"
)


def read(path: Path) -> Iterator[Ask]:
    """`task_id`, `prompt`, `test` and `entry_point`."""
    for row in rows_of(path):
        fields = {key: row.text(key) for key in ("prompt", "test", "entry_point")}
        prompt = _PROMPT.format(prompt=fields["prompt"])
        yield Ask(row.id("task_id"), (prompt,), fields)


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """pass@1: the share of programs that pass all tests."""
    questions = tools.scored_by("code", answered, {"timeout": _SECONDS}, text=_program)
    return Scored((result_of(tools.name, "pass@1", questions),), tuple(questions))


def _program(answered: Answered, answer: str) -> str:
    """The prompt's imports and signature with the answer behind them: an answer may give the body alone."""
    prompt = str(answered.ask.row["prompt"])
    program = program_in(answer)
    whole = f"def {answered.ask.row['entry_point']}(" in program
    return f"{prompt}\n    pass\n\n{program}" if whole else f"{prompt}{program}"
