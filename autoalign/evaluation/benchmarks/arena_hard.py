"""Arena-Hard (arXiv:2406.11939): hard prompts, answers beside those of one or several baselines.

Bradley-Terry ratings on the Elo scale, the first baseline at 1000, with bootstrap intervals.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.baselines import Beside, beside, read_baseline, win_rate
from autoalign.evaluation.results import Result
from autoalign.evaluation.tools import Tools
from autoalign.judging.ratings import Game, bradley_terry

FILE = "arena_hard"
MAX_NEW_TOKENS = 2048
NEEDS = ("judge",)
_RESAMPLES = 200
_ME = "the model"


def read(path: Path) -> Iterator[Ask]:
    """`prompt` and `output`; `model` where there are several baselines, a row for each."""
    return read_baseline(path, ("prompt", "instruction"))


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """The win rate in percent, and the rating."""
    found = beside(answered, tools)
    return Scored((win_rate(found, tools), _rating(found, tools)), found.questions)


def _rating(found: Beside, tools: Tools) -> Result:
    games = [
        Game(_ME, match.opponent, points)
        for points, match in zip(found.points, found.matches, strict=True)
        if points is not None
    ]
    anchor = games[0].second
    ratings = bradley_terry(games, anchor)
    draw = random.Random(tools.config.seed)  # noqa: S311 (no secret)
    drawn: list[float] = []
    while len(drawn) < _RESAMPLES:
        sample = draw.choices(games, k=len(games))
        if any(game.second == anchor for game in sample):
            drawn.append(bradley_terry(sample, anchor)[_ME])
    drawn.sort()
    value, low, high = ratings[_ME], drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    notes = {"ratings": {name: round(rating) for name, rating in ratings.items() if name != _ME}}
    return Result(tools.name, "rating", len(games), value, min(low, value), max(high, value), "", notes=notes)
