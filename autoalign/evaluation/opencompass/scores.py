"""Which answers are right, and which figures are shares of them, as far as OpenCompass's files tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from autoalign.evaluation.results import PERCENT

FLAGS = ("correct", "is_correct", "cascade_correct")  # of a question's details
_SAME = 1e-6  # of percent
_ROUNDED = 0.005 + _SAME  # some evaluators round to two decimals
_ACCURACY = "accuracy"
_SHARES = re.compile(rf"{_ACCURACY}|exact_match|Prompt-level-strict-accuracy|(\w+_)?pass@1")
# Evaluators whose `score` is the share of right answers; that of others is an F1, a rating, points, ...
_COUNTS = (
    *("AGIEvalEvaluator", "AGIEvalEvaluator_mcq", "BBHEvaluator", "BBHEvaluator_mcq", "EMEvaluator"),
    *("MBPPEvaluator", "NQEvaluator", "NQEvaluatorCN", "SQuAD20Evaluator", "TriviaQAEvaluator"),
)


def correctness(rows: Sequence[Mapping[str, Any]], metric: str, value: float) -> list[float | None]:
    """The share of each question's answers that are right; None where that can't be told.

    Where an evaluator says nothing of the questions, OpenCompass writes what it was given, prediction and
    reference, as text. AccEvaluator (MMLU, ARC, C-Eval) calls right what is the same text; others compare
    in another way, or something else, so that this is believed only where it gives the whole figure.

    Args:
        rows: the details, one a question.
        metric: of the set's figure `value`.
    """
    if metric == _ACCURACY and not any(flag in row for row in rows for flag in FLAGS):
        compared = [_compared(row) for row in rows]
        known = [score for score in compared if score is not None]
        if len(known) == len(rows) and gives(known, value, _SAME):
            return compared
    return [_flagged(row) for row in rows]


def gives(scores: Sequence[float], value: float, apart: float = _ROUNDED) -> bool:
    """Whether `value` is the mean of the scores in percent, but for `apart` percent."""
    return bool(scores) and abs(PERCENT * fmean(scores) - value) <= apart


def is_share(metric: str, evaluator: str, value: float, answers: int) -> bool:
    """Whether a figure is a share of right answers, in percent: one that is called so, and can be one.

    Some evaluators write an accuracy of 0.31 for 31%, or weigh the questions: that is no whole number of
    `answers`.
    """
    if not (_SHARES.fullmatch(metric) or (metric == "score" and evaluator in _COUNTS)):
        return False
    if answers < 1 or not 0 <= value <= PERCENT:
        return False
    right = round(value / PERCENT * answers)
    return math.isclose(PERCENT * right / answers, value, rel_tol=0.0, abs_tol=_ROUNDED)


def _flagged(row: Mapping[str, Any]) -> float | None:
    for key in FLAGS:
        given = row.get(key)
        values = given if isinstance(given, list) else [given]
        if values and all(isinstance(value, bool) for value in values):
            return fmean(map(float, values))
    return None


def _compared(row: Mapping[str, Any]) -> float | None:
    prediction, reference = row.get("predictions"), row.get("references")
    if not (isinstance(prediction, str) and isinstance(reference, str)):
        return None
    return float(prediction == reference)
