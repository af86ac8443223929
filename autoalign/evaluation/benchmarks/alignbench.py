"""AlignBench (arXiv:2311.18743): Chinese questions, graded from 1 to 10 by a judge beside a reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.results import result_of
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import agreement, averaged, grades, questions_of
from autoalign.judging.prompts import JudgePrompt

FILE = "alignbench/data_v1.1_release.jsonl"
MAX_NEW_TOKENS = 1024
NEEDS = ("judge",)


def read(path: Path) -> Iterator[Ask]:
    """`question_id`, `question`, `reference`, `category`."""
    for row in rows_of(path):
        told = {"reference": row.text("reference"), "category": str(row.fields.get("category", ""))}
        yield Ask(row.id("question_id", "id"), (row.text("question"),), told)


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """The mean grade, and that of each category in the notes."""
    prompt = JudgePrompt("alignbench")
    asked = [
        (
            prompt.fill(conversation=each.ask.text, answer=answer, reference=str(each.ask.row["reference"])),
            {"id": each.ask.id, "run": run},
        )
        for each in answered
        for run, answer in enumerate(each.last)
    ]
    by_judge = grades(asked, tools)
    mean = iter(averaged(by_judge))
    runs = [[next(mean) for _ in each.runs] for each in answered]
    scores = [None if None in each else fmean(grade for grade in each if grade) for each in runs]
    told = [{"category": each.ask.row["category"]} for each in answered]
    questions = questions_of(answered, scores, told)
    agreed = agreement(by_judge, graded=True)
    notes = {"agreement": agreed} if agreed else {}
    return Scored((result_of(tools.name, "grade", questions, unit="", notes=notes),), questions)
