"""AlpacaEval: answers beside a baseline's, told apart by a judge in both orders (arXiv:2404.04475).

The win rate, and the length-controlled one: what it would be between answers of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.baselines import (
    beside,
    bootstrap_of_questions,
    by_question,
    matches_of,
    read_baseline,
    win_rate,
)
from autoalign.evaluation.results import PERCENT, Result, are_alike, with_value
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import points
from autoalign.intervals import wilson
from autoalign.judging.length_control import length_controlled

FILE = "alpaca_eval"
MAX_NEW_TOKENS = 2048
NEEDS = ("judge",)
_METRIC = "length-controlled win rate"
_RESAMPLES = 500


class Verdict(NamedTuple):
    """A match's points, the lengths of both answers in characters, and how hard its question is."""

    won: float
    mine: int
    other: int
    difficulty: float | None = None


def read(path: Path) -> Iterator[Ask]:
    """`instruction` and `output`, the baseline's answer: a file, or a folder with one.

    AlpacaEval's `instruction_difficulty` is used for the length-controlled rate where all rows have it.
    """
    return read_baseline(path, ("instruction", "prompt"))


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """Both win rates in percent."""
    matches = matches_of(answered)
    found = beside(answered, matches, points(matches, tools))
    verdicts = [
        None if won is None else Verdict(won, len(match.answer), len(match.other), match.difficulty)
        for won, match in zip(found.points, matches, strict=True)
    ]
    known = [[each for each in own if each is not None] for own in by_question(answered, verdicts)]
    return Scored((win_rate(found, tools), controlled(tools.name, known, tools.config.seed)), found.questions)


def controlled(
    name: str, questions: Sequence[Sequence[Verdict]], seed: int, resamples: int = _RESAMPLES
) -> Result:
    """The length-controlled win rate of each question's verdicts, with a bootstrap over the questions.

    Where several questions have the same points, as where all are won, lengths alone would vary in it: the
    interval is Wilson's for this rate of as many questions.
    """
    questions = [verdicts for verdicts in questions if verdicts]
    if not questions:
        return Result(name, _METRIC, error="no match has a verdict of every judge")
    rate, count = _rate(questions), len(questions)
    low, high = bootstrap_of_questions(questions, _rate, resamples=resamples, seed=seed)
    if count > 1 and are_alike(fmean(verdict.won for verdict in own) for own in questions):
        _, *ends = wilson(rate / PERCENT * count, count)
        low, high = (PERCENT * end for end in ends)
    return with_value(Result(name, _METRIC, count, low=low, high=high), rate)


def _rate(questions: Sequence[Sequence[Verdict]]) -> float:
    """In percent."""
    wins, mine, others, difficulty = zip(*(each for own in questions for each in own), strict=True)
    known = None if None in difficulty else difficulty
    return PERCENT * length_controlled(wins, mine, others, known)
