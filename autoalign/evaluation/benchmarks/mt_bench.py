"""MT-Bench (arXiv:2306.05685): 80 questions of two turns, both graded from 1 to 10 by a judge.

The judge gets the prompts of `judge_prompts.jsonl` where the folder has them, as published scores do; else
`autoalign/prompts/judge/rubric.txt`. Maths, reasoning and code are graded beside a reference answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from autoalign.errors import DataError
from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.results import Question, Result, result_of
from autoalign.evaluation.rows import Row, rows_of
from autoalign.evaluation.strata import strata_of
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import agreement, averaged, grades, questions_of
from autoalign.judging.prompts import JudgePrompt
from autoalign.scoring.judge import Question as Asked

FILE = "mt_bench"
MAX_NEW_TOKENS = 1024
NEEDS = ("judge",)
_REFERENCED = ("math", "reasoning", "coding", "arena-hard-200")
# Of the published answers (FastChat); the other categories' is 0.
_TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}


def read(path: Path) -> Iterator[Ask]:
    """A folder with `question.jsonl` (`question_id`, `category`, `turns`), or that file alone."""
    folder, file = (path, path / "question.jsonl") if path.is_dir() else (path.parent, path)
    references = _references(folder)
    prompts = {row.text("name"): dict(row.fields) for row in _rows(folder / "judge_prompts.jsonl")}
    for row in rows_of(file):
        id = row.id("question_id", "id")
        turns = row.texts("turns")
        given = references.get(id) or (row.texts("reference") if row.fields.get("reference") else None)
        if given and len(given) < len(turns):
            raise DataError("its reference has fewer turns than the question", str(file), row.line)
        category = row.text("category")
        told = {"category": category, "reference_turns": given, "prompts": prompts}
        yield Ask(id, turns, told, temperature=_TEMPERATURES.get(category, 0.0))


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """The mean grade, and that of each turn."""
    places = [
        (place, run, turn)
        for place, each in enumerate(answered)
        for run, turns in enumerate(each.runs)
        for turn in range(len(turns))
    ]
    by_judge = grades([_asked(answered[place], run, turn) for place, run, turn in places], tools)
    found = averaged(by_judge)
    of: list[list[list[float | None]]] = [[[] for _ in each.ask.turns] for each in answered]
    for (place, _, turn), grade in zip(places, found, strict=True):
        of[place][turn].append(grade)
    turns = [[_mean(each) for each in question] for question in of]
    told = [
        {"category": each.ask.row["category"], "turns": marks}
        for each, marks in zip(answered, turns, strict=True)
    ]
    questions = questions_of(answered, [_mean(each) for each in turns], told)
    return Scored(tuple(_results(questions, turns, agreement(by_judge, graded=True), tools)), questions)


def _results(
    questions: Sequence[Question],
    turns: Sequence[Sequence[float | None]],
    agreed: Mapping[str, float],
    tools: Tools,
) -> Iterator[Result]:
    categories = strata_of(questions, "category")
    notes = {"categories": {name: round(fmean(each), 2) for name, each in categories.items()}}
    whole = {**notes, **({"agreement": agreed} if agreed else {})}
    yield result_of(tools.name, "grade", questions, unit="", notes=whole)
    for number in range(max(map(len, turns))):
        part = [
            replace(question, score=marks[number])
            for question, marks in zip(questions, turns, strict=True)
            if number < len(marks)
        ]
        yield result_of(tools.name, f"grade of turn {number + 1}", part, unit="")


def _asked(answered: Answered, run: int, turn: int) -> Asked:
    row, answers = answered.ask.row, answered.runs[run]
    referenced = row["category"] in _REFERENCED and bool(row["reference_turns"])
    name = f"single{'-math' if referenced else ''}-v1{'-multi-turn' if turn else ''}"
    about = {"id": answered.ask.id, "run": run, "turn": turn + 1}
    if name not in row["prompts"]:
        return Asked(_own_prompt(answered, run, turn, referenced), about)
    prompt, asked = row["prompts"][name], answered.ask.turns
    values = {"question": asked[turn], "answer": answers[turn]}
    for number in range(turn + 1):
        values[f"question_{number + 1}"] = asked[number]
        values[f"answer_{number + 1}"] = answers[number]
        if referenced:
            values[f"ref_answer_{number + 1}"] = str(row["reference_turns"][number])
    return Asked(_filled(str(prompt["prompt_template"]), values), about, str(prompt["system_prompt"]))


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Names in braces in one pass, so that braces in answers stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def _own_prompt(answered: Answered, run: int, turn: int, referenced: bool) -> str:
    messages = answered.conversation(run)[: 2 * turn + 1 + len(answered.ask.opening)]
    conversation = "\n\n".join(f"{message.role}: {message.content}" for message in messages)
    reference = str(answered.ask.row["reference_turns"][turn]) if referenced else None
    prompt = JudgePrompt("rubric")
    return prompt.fill(conversation=conversation, answer=answered.runs[run][turn], reference=reference)


def _references(folder: Path) -> dict[str, tuple[str, ...]]:
    """FastChat's files: the turns of the first of a row's `choices`."""
    found = {}
    for file in sorted((folder / "reference_answer").glob("*.jsonl")):
        for row in rows_of(file):
            choices = row.fields.get("choices")
            first = choices[0] if isinstance(choices, list) and choices else {}
            turns = Row(row.path, row.line, first if isinstance(first, dict) else {}).texts("turns")
            found[row.id("question_id")] = turns
    return found


def _rows(file: Path) -> Iterator[Any]:
    return rows_of(file) if file.is_file() else iter(())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
