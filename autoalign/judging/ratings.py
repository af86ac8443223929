"""Ratings from games: Bradley and Terry's model, where i beats j with probability p_i / (p_i + p_j)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

_SCALE, _ANCHOR = 400.0, 1000.0
_STEPS, _CLOSE = 200, 1e-10
_PRIOR = 0.5  # a tie with the average player: ratings stay finite where one side wins every game


class Game(NamedTuple):
    """`points` of the first player: 1 won, 0.5 tied, 0 lost; a game of weight 3 counts as three."""

    first: str
    second: str
    points: float
    weight: float = 1.0


def bradley_terry(games: Sequence[Game], anchor: str) -> dict[str, float]:
    """Elo-scaled ratings (400 points are odds of 10 to 1), `anchor` at 1000.

    The likeliest ones (Bradley and Terry 1952, doi:10.2307/2334029), ties as half a win each, with one half
    tie of every player against an average one.

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
    counts = [[met.get((one, other), 0.0) for other in players] for one in players]
    logits = dict(zip(players, _likeliest(list(won.values()), counts), strict=True))
    return {name: _ANCHOR + _SCALE * (logits[name] - logits[anchor]) / math.log(10) for name in players}


def _likeliest(won: Sequence[float], met: Sequence[Sequence[float]]) -> list[float]:
    """The players' log strengths, by Newton's method.

    Steps are held to 1, since the first ones lead too far where a side wins nearly every game.

    Args:
        won: points of each player, with those of the tie.
        met: (players, players), games of each two.
    """
    import numpy as np

    games, logits = np.array(met), np.zeros(len(won))
    for _ in range(_STEPS):
        shares = 0.5 * (1 + np.tanh((logits[:, None] - logits) / 2))
        tied = 0.5 * (1 + np.tanh(logits / 2))
        gradient = np.array(won) - (games * shares).sum(1) - 2 * _PRIOR * tied
        bends = games * shares * (1 - shares)
        step = np.linalg.solve(np.diag(bends.sum(1) + 2 * _PRIOR * tied * (1 - tied)) - bends, gradient)
        largest = float(np.abs(step).max())
        logits = logits + step / max(1.0, largest)
        if largest < _CLOSE:
            break
    return [float(logit) for logit in logits]
