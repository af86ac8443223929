"""Arena-Hard (arXiv:2406.11939): hard prompts, answers beside those of one or several baselines.

A judge says in both orders how much better which answer is; much better counts as three games. Bradley-Terry
ratings of all games on the Elo scale, the first baseline at 1000, with bootstrap intervals over the matches.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.baselines import beside, matches_of, read_baseline, win_rate
from autoalign.evaluation.results import Result
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import battles, share
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
    """The win rate in percent, a question's being the share of its games, and the rating."""
    matches = matches_of(answered)
    played = battles(matches, tools)
    shares = {judge: [share(pair) for pair in pairs] for judge, pairs in played.items()}
    found = beside(answered, matches, shares, graded=True)
    games = [
        [Game(_ME, match.opponent, *battle) for pair in pairs if pair is not None for battle in pair]
        for match, *pairs in zip(matches, *played.values(), strict=True)
    ]
    return Scored((win_rate(found, tools), _rating([each for each in games if each], tools)), found.questions)


def _rating(matches: Sequence[Sequence[Game]], tools: Tools) -> Result:
    """Of the games of each match; a match is drawn with all of them."""
    anchor = matches[0][0].second
    ratings = bradley_terry([game for match in matches for game in match], anchor)
    draw = random.Random(tools.config.seed)  # noqa: S311 (no secret)
    drawn: list[float] = []
    while len(drawn) < _RESAMPLES:
        sample = [game for match in draw.choices(matches, k=len(matches)) for game in match]
        if any(game.second == anchor for game in sample):
            drawn.append(bradley_terry(sample, anchor)[_ME])
    drawn.sort()
    value, low, high = ratings[_ME], drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    notes = {"ratings": {name: round(rating) for name, rating in ratings.items() if name != _ME}}
    count = len(matches)
    interval: tuple[float | None, float | None] = (None, None)
    if count > 1:
        interval = (min(low, value), max(high, value))
    return Result(tools.name, "rating", count, value, *interval, "", notes=notes)
