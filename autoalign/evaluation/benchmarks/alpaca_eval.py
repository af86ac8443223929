"""AlpacaEval: answers beside a baseline's, told apart by a judge in both orders (arXiv:2404.04475).

The win rate, and the length-controlled one: what it would be between answers of one length.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.baselines import Beside, beside, matches_of, read_baseline, win_rate
from autoalign.evaluation.results import PERCENT, Result
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import points
from autoalign.judging.length_control import length_controlled

FILE = "alpaca_eval"
MAX_NEW_TOKENS = 2048
NEEDS = ("judge",)
_RESAMPLES = 500


def read(path: Path) -> Iterator[Ask]:
    """`instruction` and `output`, the baseline's answer: a file, or a folder with one.

    AlpacaEval's `instruction_difficulty` is used for the length-controlled rate where all rows have it.
    """
    return read_baseline(path, ("instruction", "prompt"))


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """Both win rates in percent."""
    matches = matches_of(answered)
    found = beside(answered, matches, points(matches, tools))
    return Scored((win_rate(found, tools), _controlled(found, tools)), found.questions)


def _controlled(found: Beside, tools: Tools) -> Result:
    """With a percentile bootstrap over the matches."""
    known = [
        (won, len(match.answer), len(match.other), match.difficulty)
        for won, match in zip(found.points, found.matches, strict=True)
        if won is not None
    ]
    value = _rate(known)
    if len(known) < 2:
        return Result(tools.name, "length-controlled win rate", len(known), PERCENT * value)
    draw = random.Random(tools.config.seed)  # noqa: S311 (no secret)
    drawn = sorted(_rate(draw.choices(known, k=len(known))) for _ in range(_RESAMPLES))
    low, high = drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    value, low, high = (PERCENT * each for each in (value, min(low, value), max(high, value)))
    return Result(tools.name, "length-controlled win rate", len(known), value, low, high)


def _rate(rows: Sequence[tuple[float, int, int, float | None]]) -> float:
    wins, mine, others, difficulty = zip(*rows, strict=True)
    return length_controlled(wins, mine, others, None if None in difficulty else difficulty)
