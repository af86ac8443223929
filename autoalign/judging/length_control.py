"""A win rate as it would be between answers of one length (arXiv:2404.04475)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import pstdev

_RIDGE = 1e-2  # keeps the fit finite where one side always wins
_STEPS, _CLOSE = 100, 1e-10


def length_controlled(wins: Sequence[float], lengths: Sequence[int], baseline: Sequence[int]) -> float:
    """The share of wins after the effect of length is taken out.

    A logistic regression: `logit P(win) = theta + phi * tanh((length - baseline) / std)`; with the length
    term at 0 the share is `sigmoid(theta)`. AlpacaEval's third term, an instruction's difficulty, is fitted
    over many models and has no place between two.

    Args:
        wins: 1, 0.5 for a tie, 0, one a question.
        lengths: of the model's answers, in characters.
        baseline: of the answers it was compared with.

    Raises:
        ValueError: no questions, or lists of different length.
    """
    differences = [float(mine - other) for mine, other in zip(lengths, baseline, strict=True)]
    if not wins or len(wins) != len(differences):
        raise ValueError(f"{len(wins)} wins and {len(differences)} lengths")
    spread = pstdev(differences) or 1.0
    terms = [math.tanh(difference / spread) for difference in differences]
    theta = phi = 0.0
    for _ in range(_STEPS):
        step = _newton(wins, terms, theta, phi)
        theta, phi = theta + step[0], phi + step[1]
        if max(map(abs, step)) < _CLOSE:
            break
    return _sigmoid(theta)


def _newton(wins: Sequence[float], terms: Sequence[float], theta: float, phi: float) -> tuple[float, float]:
    """One step of the ridge-penalised maximum likelihood."""
    shares = [_sigmoid(theta + phi * term) for term in terms]
    slope = sum(win - share for win, share in zip(wins, shares, strict=True)) - _RIDGE * theta
    tilt = (
        sum((win - share) * term for win, share, term in zip(wins, shares, terms, strict=True)) - _RIDGE * phi
    )
    weights = [share * (1 - share) for share in shares]
    a = sum(weights) + _RIDGE
    b = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    c = sum(weight * term * term for weight, term in zip(weights, terms, strict=True)) + _RIDGE
    determinant = a * c - b * b
    return (c * slope - b * tilt) / determinant, (a * tilt - b * slope) / determinant


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
