"""Ratings from games: Bradley and Terry's model, where i beats j with probability p_i / (p_i + p_j)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

_SCALE, _ANCHOR = 400.0, 1000.0
_STEPS, _CLOSE = 10_000, 1e-10
_PRIOR = 0.5  # a tie with the average player: ratings stay finite where one side wins every game


class Game(NamedTuple):
    """`points` of the first player: 1 won, 0.5 tied, 0 lost; a game of weight 3 counts as three."""

    first: str
    second: str
    points: float
    weight: float = 1.0


def bradley_terry(games: Sequence[Game], anchor: str) -> dict[str, float]:
    """Elo-scaled ratings (400 points are odds of 10 to 1), `anchor` at 1000.

    The minorisation-maximisation of Hunter 2004 (doi:10.1214/aos/1079120141), ties as half a win each, with
    one half tie of every player against an average one.

    Raises:
        ValueError: the anchor has played no game.
    """
    players = sorted({name for game in games for name in game[:2]})
    if anchor not in players:
        raise ValueError(f"'{anchor}' has played no game")
    won = dict.fromkeys(players, _PRIOR)
    met: dict[tuple[str, str], float] = defaultdict(float)
    for game in games:
        won[game.first] += game.weight * game.points
        won[game.second] += game.weight * (1 - game.points)
        met[game.first, game.second] += game.weight
        met[game.second, game.first] += game.weight
    strength = dict.fromkeys(players, 1.0)
    for _ in range(_STEPS):
        before = strength
        strength = {name: _step(name, won[name], met, before) for name in players}
        if max(abs(math.log(strength[name] / before[name])) for name in players) < _CLOSE:
            break
    return {name: _ANCHOR + _SCALE * math.log10(strength[name] / strength[anchor]) for name in players}


def _step(name: str, won: float, met: dict[tuple[str, str], float], strength: dict[str, float]) -> float:
    games = sum(
        count / (strength[name] + strength[other]) for (player, other), count in met.items() if player == name
    )
    return won / (games + 2 * _PRIOR / (strength[name] + 1.0))
