"""A model's answers beside the answers that a baseline gave to the same questions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from autoalign.errors import DataError
from autoalign.evaluation.ask import Answered, Ask
from autoalign.evaluation.results import Question, Result, result_of
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import Match, agreement, averaged, questions_of

_KINDS = (".jsonl", ".json", ".csv", ".parquet")
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Beside:
    """All matches with their points (None: no verdict), and the questions with the mean of theirs."""

    matches: tuple[Match, ...]
    points: tuple[float | None, ...]
    questions: tuple[Question, ...]
    agreement: Mapping[str, float]


def read_baseline(path: Path, keys: tuple[str, ...]) -> Iterator[Ask]:
    """Questions with one or several baselines' answers; the rows of one question have the same text.

    Raises:
        DataError: a folder without a file, or a row without a question or an answer.
    """
    asked: dict[str, tuple[str, dict[str, str], float | None]] = {}
    for file in _files(path):
        for row in rows_of(file):
            question, name = (
                row.text(*keys),
                str(row.fields.get("model", row.fields.get("generator", "baseline"))),
            )
            id = row.id("id", "question_id", "uid")
            given = row.fields.get("instruction_difficulty")
            difficulty = float(given) if isinstance(given, int | float) else None
            known = asked.setdefault(question, (f"{file.stem}/{id}", {}, difficulty))
            known[1][name] = row.text("output", "answer")
    for question, (id, outputs, difficulty) in asked.items():
        yield Ask(id, (question,), {"outputs": outputs, "difficulty": difficulty})


def matches_of(answered: Sequence[Answered]) -> list[Match]:
    """Every answer beside every baseline's."""
    return [
        Match(
            f"{each.ask.id}-{run}", each.ask.text, answer, other, name, difficulty=each.ask.row["difficulty"]
        )
        for each in answered
        for run, answer in enumerate(each.last)
        for name, other in each.ask.row["outputs"].items()
    ]


def beside(
    answered: Sequence[Answered],
    matches: Sequence[Match],
    by_judge: Mapping[str, Sequence[float | None]],
    *,
    graded: bool = False,
) -> Beside:
    """What the judges gave each match (`matches_of(answered)`), and each question.

    Args:
        graded: there is more between 0 and 1 than a half; kappa is then weighted.
    """
    found = averaged(by_judge)
    scores = [
        None if None in own else fmean(value for value in own if value is not None)
        for own in by_question(answered, found)
    ]
    questions = questions_of(
        answered, scores, [{"opponents": list(each.ask.row["outputs"])} for each in answered]
    )
    return Beside(tuple(matches), tuple(found), questions, agreement(by_judge, graded=graded))


def win_rate(found: Beside, tools: Tools) -> Result:
    """In percent, ties as half a win."""
    notes = {"agreement": found.agreement} if found.agreement else {}
    return result_of(tools.name, "win rate", found.questions, notes=notes)


def by_question(answered: Sequence[Answered], each_match: Iterable[_Row]) -> list[list[_Row]]:
    """What belongs to each match (of `matches_of(answered)`, in its order), by question."""
    rows = iter(each_match)
    return [[next(rows) for _ in each.runs for _ in each.ask.row["outputs"]] for each in answered]


def bootstrap_of_questions(
    questions: Sequence[_Row], figure: Callable[[Sequence[_Row]], float | None], *, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """The 95% percentile interval of `figure`, for which questions are drawn with all that belongs to them.

    The runs of a question and the baselines beside it share what makes it hard, so they are no questions of
    their own. A sample without a figure is drawn anew.

    Returns:
        its ends; None for both where samples don't differ: one question, or several that went alike, say
        nothing of how questions vary.
    """
    if len(questions) < 2:
        return None, None
    draw = random.Random(seed)  # noqa: S311 (no secret)
    drawn: list[float] = []
    while len(drawn) < resamples:
        found = figure(draw.choices(questions, k=len(questions)))
        if found is not None:
            drawn.append(found)
    drawn.sort()
    low, high = drawn[int(0.025 * resamples)], drawn[int(0.975 * resamples)]
    return (None, None) if math.isclose(low, high) else (low, high)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in _KINDS)
    if not found:
        raise DataError(f"no file of baseline answers in it ({', '.join(_KINDS)})", str(path))
    return found
