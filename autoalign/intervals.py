"""Intervals around measured shares and means: Wilson's, and the paired bootstrap.

An interval of level 0.95 holds the true value in 95 of 100 repeated measurements. Nothing here needs
more than the standard library, and the same seed gives the same interval.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

RESAMPLES = 2000


class Interval(NamedTuple):
    """A figure and the interval around it; `low <= value <= high`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: float, trials: float, level: float = 0.95) -> Interval:
    """The share `successes / trials` with Wilson's score interval (Wilson 1927; Agresti and Coull 1998).

    Unlike `p ± z sqrt(p(1-p)/n)` it keeps its level for few trials and for shares near 0 and 1, and never
    leaves 0 to 1. A tie may count as half a success, and `trials` be an effective number.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes:g} successes in {trials:g} trials")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def bootstrap_mean(
    values: Sequence[float], level: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 42
) -> Interval:
    """The mean of `values` with its percentile bootstrap interval (Efron 1979).

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values to take the mean of")
    draw, size, mean = random.Random(seed), len(values), fmean(values)  # noqa: S311 (no secret)
    means = sorted(sum(draw.choices(values, k=size)) / size for _ in range(resamples))
    tail = (1 - level) / 2
    low, high = _quantile(means, tail), _quantile(means, 1 - tail)
    return Interval(mean, min(mean, low), max(mean, high))


def paired_bootstrap(
    before: Sequence[float],
    after: Sequence[float],
    level: float = 0.95,
    *,
    resamples: int = RESAMPLES,
    seed: int = 42,
) -> Interval:
    """The mean of `after - before`, item by item, with its interval (Koehn 2004).

    Both hold one figure for each item of the same benchmark, in the same order: items are drawn with both
    their figures, so that what makes an item hard for both does not widen the interval. `low > 0` says
    that `after` is better at this level.

    Raises:
        ValueError: the lists are of different length, or empty.
    """
    differences = [new - old for old, new in zip(before, after, strict=True)]
    return bootstrap_mean(differences, level, resamples=resamples, seed=seed)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the two nearest (Hyndman and Fan's type 7, numpy's default)."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
