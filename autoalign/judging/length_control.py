"""A win rate as it would be between answers of one length (arXiv:2404.04475)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

_RIDGE = 1e-2  # keeps the fit finite where one side always wins
_STEPS, _CLOSE = 100, 1e-10


def length_controlled(
    wins: Sequence[float],
    lengths: Sequence[int],
    baseline: Sequence[int],
    difficulty: Sequence[float] | None = None,
) -> float:
    """The share of wins after the effect of length is taken out.

    AlpacaEval's regression: `logit P(win) = theta + phi * tanh((length - baseline) / std) + psi * gamma`,
    where gamma is the instruction's difficulty. With the length term at 0 the share is the mean of
    `sigmoid(theta + psi * gamma)`. AlpacaEval fits gamma once over many models and publishes it with its
    instructions; without it that term is left out. A small ridge stands in for its cross-validated penalty
    and for its two baselines of known length effect.

    Args:
        wins: 1, 0.5 for a tie, 0, or a probability, one a question.
        lengths: of the model's answers, in characters.
        baseline: of the answers it was compared with.
        difficulty: gamma of each question.

    Raises:
        ValueError: no questions, or lists of different length.
    """
    import numpy as np

    differences = [float(mine - other) for mine, other in zip(lengths, baseline, strict=True)]
    gammas = [0.0] * len(differences) if difficulty is None else list(difficulty)
    if not wins or not len(wins) == len(differences) == len(gammas):
        raise ValueError(f"{len(wins)} wins, {len(differences)} lengths and {len(gammas)} difficulties")
    spread = (stdev(differences) if len(differences) > 1 else 0.0) or 1.0
    terms = [math.tanh(difference / spread) for difference in differences]
    columns = [[1.0] * len(terms), terms, *([] if difficulty is None else [gammas])]
    fitted = _fit(np.array(columns).T, np.array(wins, dtype=float))
    theta, psi = fitted[0], fitted[2] if difficulty is not None else 0.0
    return fmean(_sigmoid(theta + psi * gamma) for gamma in gammas)


def _fit(rows: Any, wins: Any) -> list[float]:
    """Newton's method on the ridge-penalised likelihood; `rows`: (questions, terms)."""
    import numpy as np

    weights = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        shares = 0.5 * (1 + np.tanh(rows @ weights / 2))
        gradient = rows.T @ (wins - shares) - _RIDGE * weights
        curvature = (rows.T * (shares * (1 - shares))) @ rows + _RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step
        if float(np.abs(step).max()) < _CLOSE:
            break
    return [float(weight) for weight in weights]


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))
