"""Figures that are made of several groups of questions, as a mean of categories' means."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from autoalign.evaluation.results import PERCENT, Question, Result

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
    """`figure` of the groups, with the percentile bootstrap in which each group keeps its size."""
    draw = random.Random(seed)  # noqa: S311 (no secret)
    drawn = sorted(
        figure({name: draw.choices(each, k=len(each)) for name, each in strata.items()})
        for _ in range(_RESAMPLES)
    )
    value, low, high = figure(strata), drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    scale = PERCENT if unit == "%" else 1.0
    count = sum(map(len, strata.values()))
    if count == len(strata):  # one question each: nothing to draw from
        return Result(benchmark, metric, count, scale * value, unit=unit)
    return Result(
        benchmark, metric, count, scale * value, scale * min(low, value), scale * max(high, value), unit
    )
