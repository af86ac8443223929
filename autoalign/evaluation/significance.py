"""Whether paired differences may be chance: exact tests that keep their level."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

_FLIPS = 2000
_CLOSE = 1e-9
_AT_ONCE = 1 << 20  # signs


def paired_p_value(differences: Sequence[float], seed: int = 42) -> float:
    """The two-sided p-value of "both are the same", from each question's difference.

    For rights and wrongs the exact McNemar test: of the questions that flipped, each was as likely to go up
    as down. For other scores the same with sizes: every difference's sign is drawn anew, 2,000 times
    (Fisher's randomisation test; the measured draw counts as one, so that p is never 0).
    """
    moved = [value for value in differences if value]
    if not moved:
        return 1.0
    if len({abs(value) for value in moved}) == 1:
        return mcnemar(sum(value > 0 for value in moved), sum(value < 0 for value in moved))
    return (1 + _as_large(moved, seed)) / (1 + _FLIPS)


def _as_large(moved: Sequence[float], seed: int) -> int:
    """How many of the draws of signs have a sum as large as the measured one."""
    import numpy as np

    draw, values = np.random.default_rng(seed), np.array(moved)
    measured = abs(float(values.sum())) - _CLOSE
    step = max(1, _AT_ONCE // len(values))
    larger = 0
    for start in range(0, _FLIPS, step):
        signs = draw.integers(0, 2, (min(step, _FLIPS - start), len(values)), dtype=np.int8)
        # With u of 0 or 1, the sum of (2u - 1) d.
        larger += int((np.abs(2 * (signs @ values) - values.sum()) >= measured).sum())
    return larger


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of several tests (1979): all below 0.05 are real but in 5% of such families.

    The smallest is multiplied by the number of tests, the next by one less, and so on; none may be below the
    one before.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def mcnemar(up: int, down: int) -> float:
    """The exact two-sided p-value of `up` questions that got better and `down` that got worse."""
    total, fewer = up + down, min(up, down)
    if not total:
        return 1.0
    tail: float = sum(comb(total, count) for count in range(fewer + 1)) / (1 << total)
    return min(1.0, 2 * tail)
