"""AlignBench (arXiv:2311.18743): Chinese questions, graded from 1 to 10 by a judge beside a reference.

The published overall score is the mean of reasoning and language, each the mean of its categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.results import result_of
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.strata import Strata, result_of_strata, strata_of
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import agreement, averaged, grades, questions_of
from autoalign.judging.prompts import JudgePrompt
from autoalign.scoring.judge import Question as Asked

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
    categories = strata_of(questions, "category")
    notes = {"categories": {name: round(fmean(each), 2) for name, each in categories.items()}}
    whole = {**notes, **({"agreement": agreed} if agreed else {})}
    results = [result_of(tools.name, "grade", questions, unit="", notes=whole)]
    if all(name in categories for area in _AREAS for name in area):
        known = {name: categories[name] for area in _AREAS for name in area}
        seed = tools.config.seed
        results.append(result_of_strata(tools.name, "overall", known, _mean_of_areas, unit="", seed=seed))
    return Scored(tuple(results), questions)


def _mean_of_areas(categories: Strata) -> float:
    return fmean(fmean(fmean(categories[name]) for name in area) for area in _AREAS)
