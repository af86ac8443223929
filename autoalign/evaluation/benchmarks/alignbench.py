"""AlignBench (arXiv:2311.18743): Chinese questions, graded from 1 to 10 by a judge beside a reference.

The published overall score is the mean of reasoning and language, each the mean of its categories.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.results import Question, Result, result_of
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import Asked, agreement, averaged, grades, questions_of
from autoalign.judging.prompts import JudgePrompt

FILE = "alignbench/data_v1.1_release.jsonl"
MAX_NEW_TOKENS = 1024
NEEDS = ("judge",)
_AREAS = (
    ("数学计算", "逻辑推理"),  # reasoning
    ("基本任务", "中文理解", "综合问答", "文本写作", "角色扮演", "专业能力"),  # language
)
# Of the published answers; the other categories' is 0.1.
_TEMPERATURES = {"角色扮演": 0.7, "文本写作": 0.7, "综合问答": 0.7}
_USUAL = 0.1
_RESAMPLES = 500


def read(path: Path) -> Iterator[Ask]:
    """`question_id`, `question`, `reference`, `category`."""
    for row in rows_of(path):
        category = str(row.fields.get("category", ""))
        told = {"reference": row.text("reference"), "category": category}
        id = row.id("question_id", "id")
        yield Ask(id, (row.text("question"),), told, temperature=_TEMPERATURES.get(category, _USUAL))


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """The mean grade, each category's in the notes, and the overall score where there is every category."""
    prompt = JudgePrompt("alignbench")
    asked = [
        Asked(
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
    categories = _categories(questions)
    notes = {"categories": {name: round(fmean(each), 2) for name, each in categories.items()}}
    whole = {**notes, **({"agreement": agreed} if agreed else {})}
    results = [result_of(tools.name, "grade", questions, unit="", notes=whole)]
    if all(name in categories for area in _AREAS for name in area):
        results.append(_overall(categories, tools))
    return Scored(tuple(results), questions)


def _categories(questions: Sequence[Question]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for question in questions:
        if question.score is not None:
            found.setdefault(str(question.details["category"]), []).append(question.score)
    return found


def _overall(categories: Mapping[str, Sequence[float]], tools: Tools) -> Result:
    """With a percentile bootstrap, in which each category keeps its number of questions."""
    known = {name: categories[name] for area in _AREAS for name in area}
    draw = random.Random(tools.config.seed)  # noqa: S311 (no secret)
    drawn = sorted(
        _mean_of_areas({name: draw.choices(each, k=len(each)) for name, each in known.items()})
        for _ in range(_RESAMPLES)
    )
    value, low, high = _mean_of_areas(known), drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    count = sum(map(len, known.values()))
    return Result(tools.name, "overall", count, value, min(low, value), max(high, value), "")


def _mean_of_areas(categories: Mapping[str, Sequence[float]]) -> float:
    return fmean(fmean(fmean(categories[name]) for name in area) for area in _AREAS)
