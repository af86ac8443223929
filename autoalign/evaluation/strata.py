"""Figures that are made of several groups of questions, as a mean of categories' means."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, variance

from autoalign.evaluation.results import (
    PERCENT,
    Question,
    Result,
    are_alike,
    interval_of_means,
    with_value,
)
from autoalign.intervals import Interval

Strata = Mapping[str, Sequence[float]]
_RESAMPLES = 500


def strata_of(questions: Sequence[Question], detail: str) -> dict[str, list[float]]:
    """The scores by what stands under `detail` in their questions; those without a score are left out."""
    found: dict[str, list[float]] = {}
    for question in questions:
        if question.score is not None:
            found.setdefault(str(question.details[detail]), []).append(question.score)
    return found


def result_of_strata(
    benchmark: str,
    metric: str,
    strata: Strata,
    figure: Callable[[Strata], float],
    *,
    unit: str = "%",
    seed: int = 42,
) -> Result:
    """`figure` of the groups, a weighted mean of their means, with its 95% interval.

    Shares have Wilson's (`interval_of_means`). Scores of another unit have the percentile bootstrap in which
    each group keeps its size, and no interval where all scores of each group are alike: nothing to draw from.
    """
    value, count = figure(strata), sum(map(len, strata.values()))
    if unit == "%":
        _, low, high = _wilson(strata, figure)
        found = Result(benchmark, metric, count, low=PERCENT * low, high=PERCENT * high)
        return with_value(found, PERCENT * value)
    if all(map(are_alike, strata.values())):
        return Result(benchmark, metric, count, value, unit=unit)
    draw = random.Random(seed)  # noqa: S311 (no secret)
    drawn = sorted(
        figure({name: draw.choices(each, k=len(each)) for name, each in strata.items()})
        for _ in range(_RESAMPLES)
    )
    low, high = drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    return with_value(Result(benchmark, metric, count, low=low, high=high, unit=unit), value)


def _wilson(strata: Strata, figure: Callable[[Strata], float]) -> Interval:
    """A group's weight is what the figure would be, were it all right and the others all wrong."""
    weights = [
        figure({name: [float(name == group)] * len(each) for name, each in strata.items()})
        for group in strata
    ]
    each = strata.values()
    variances = [variance(scores) if len(scores) > 1 else 0.0 for scores in each]
    return interval_of_means([len(scores) for scores in each], list(map(fmean, each)), variances, weights)
