"""Elo ratings of a round robin, with a weight for the place at which a player stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_ROUNDS = 200


class Battle(NamedTuple):
    """Players by their number; who stood first, who second, and whether the first won."""

    first: int
    second: int
    first_won: bool


class Weights(NamedTuple):
    """What a win counts at the first and at the second place."""

    first: float
    second: float


def place_weights(battles: Sequence[Battle]) -> Weights:
    """The share of wins at the other place (arXiv:2407.19594, section 2.3); 1/2 each without battles."""
    if not battles:
        return Weights(0.5, 0.5)
    first = sum(battle.first_won for battle in battles)
    return Weights(1 - first / len(battles), first / len(battles))


def ratings(players: int, battles: Sequence[Battle], weights: Weights) -> list[float]:
    """Strengths that make the weighted wins likeliest, as Elo's logistic model has them; their mean is 1.

    The Bradley-Terry model's MM iteration (Hunter 2004): p_i = wins_i / sum_j n_ij / (p_i + p_j). Every two
    players get a draw of weight 0.1 besides, so that one who only wins has a finite rating.
    """
    won = [[0.0 if i == j else 0.05 for j in range(players)] for i in range(players)]
    for battle in battles:
        if battle.first_won:
            won[battle.first][battle.second] += weights.first
        else:
            won[battle.second][battle.first] += weights.second
    strength = [1.0] * players
    for _ in range(_ROUNDS):
        new = [
            sum(won[i])
            / sum((won[i][j] + won[j][i]) / (strength[i] + strength[j]) for j in range(players) if j != i)
            for i in range(players)
        ]
        total = sum(new)
        strength = [value * players / total for value in new]
    return [round(value, 9) for value in strength]
