"""Arena-Hard (arXiv:2406.11939): hard prompts, answers beside those of one or several baselines.

A judge says in both orders how much better which answer is; much better counts as three games. Bradley-Terry
ratings of all games on the Elo scale, the first baseline at 1000, with bootstrap intervals over questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.baselines import (
    beside,
    bootstrap_of_questions,
    by_question,
    matches_of,
    read_baseline,
    win_rate,
)
from autoalign.evaluation.results import Result, are_alike, with_value
from autoalign.evaluation.tools import Tools
from autoalign.evaluation.verdicts import battles, share
from autoalign.judging.ratings import Game, bradley_terry

FILE = "arena_hard"
MAX_NEW_TOKENS = 2048
NEEDS = ("judge",)
_RESAMPLES = 500
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
    questions = [[game for match in own for game in match] for own in by_question(answered, games)]
    figure = rating(tools.name, questions, matches[0].opponent, tools.config.seed)
    return Scored((win_rate(found, tools), figure), found.questions)


def rating(
    name: str, questions: Sequence[Sequence[Game]], anchor: str, seed: int, resamples: int = _RESAMPLES
) -> Result:
    """The model's rating beside `anchor`'s 1000, with a bootstrap of the questions and their games.

    Where all games beside the anchor end alike, as all won, the rating follows from their number alone and
    has no interval.
    """
    questions = [games for games in questions if games]
    ratings = _rated(questions, anchor)
    if ratings is None:
        return Result(name, "rating", error=f"no verdict beside {anchor}, whom ratings start from", unit="")
    low, high = None, None
    if not are_alike(game.points for own in questions for game in own if game.second == anchor):
        low, high = bootstrap_of_questions(
            questions, lambda drawn: _own(_rated(drawn, anchor)), resamples=resamples, seed=seed
        )
    notes = {"ratings": {each: round(points) for each, points in ratings.items() if each != _ME}}
    found = Result(name, "rating", len(questions), low=low, high=high, unit="", notes=notes)
    return with_value(found, ratings[_ME])


def _rated(questions: Sequence[Sequence[Game]], anchor: str) -> dict[str, float] | None:
    """None where the anchor played none of the games."""
    games = [game for own in questions for game in own]
    return bradley_terry(games, anchor) if any(game.second == anchor for game in games) else None


def _own(ratings: Mapping[str, float] | None) -> float | None:
    return None if ratings is None else ratings[_ME]
