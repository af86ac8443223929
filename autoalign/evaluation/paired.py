"""Two models over the same questions: their means, the difference's interval, and how likely it is by chance.

A set of several subsets is figured as its table is: by the mean of the subsets' means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from autoalign.evaluation.results import Question
from autoalign.evaluation.significance import paired_p_value
from autoalign.intervals import RESAMPLES, paired_bootstrap

Both = tuple[Question, Question]
_DRAWS = 2_000_000  # of one bootstrap
_AT_ONCE = 1 << 20  # numbers


class Pairs(NamedTuple):
    """Questions that have a score of both models; `unlike` is how many others differ but for their id."""

    scored: tuple[Both, ...]
    unlike: int


class Figures(NamedTuple):
    """Mean scores, the interval of `after - before`, and its p-value."""

    before: float
    after: float
    low: float
    high: float
    p_value: float


def pairs_of(before: Mapping[str, Question], after: Mapping[str, Question]) -> Pairs:
    """The questions of one id; where their texts differ (beyond spaces) they are not the same."""
    both = [
        (old, after[id])
        for id, old in before.items()
        if id in after and old.score is not None and after[id].score is not None
    ]
    alike = tuple((old, new) for old, new in both if old.prompt.split() == new.prompt.split())
    return Pairs(alike, len(both) - len(alike))


def by_subset(pairs: Sequence[Both]) -> list[list[Both]]:
    """Questions of one subset together, by their ids, `SUBSET/PLACE`."""
    found: dict[str, list[Both]] = {}
    for old, new in pairs:
        found.setdefault(old.id.rpartition("/")[0], []).append((old, new))
    return list(found.values())


def figures(subsets: Sequence[Sequence[Both]], level: float, seed: int) -> Figures:
    """The mean of the subsets' means for both models, and what their difference is worth.

    The p-value is that of the randomisation in which each question's difference has its sign drawn anew,
    weighted as in the mean: 1 / (subsets * questions of its subset).

    Raises:
        ValueError: no subset, or one without a question.
    """
    before = [[old.score or 0.0 for old, _ in each] for each in subsets]
    after = [[new.score or 0.0 for _, new in each] for each in subsets]
    count = sum(map(len, subsets))
    resamples = max(200, min(RESAMPLES, _DRAWS // count))
    if len(subsets) == 1:
        _, low, high = paired_bootstrap(before[0], after[0], level, resamples=resamples, seed=seed)
    else:
        low, high = _stratified_bootstrap(before, after, level, seed)
    weighted = [
        (new - old) * count / (len(subsets) * len(olds))
        for olds, news in zip(before, after, strict=True)
        for old, new in zip(olds, news, strict=True)
    ]
    p_value = paired_p_value(weighted, seed=seed)
    return Figures(fmean(map(fmean, before)), fmean(map(fmean, after)), low, high, p_value)


def _stratified_bootstrap(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], level: float, seed: int
) -> tuple[float, float]:
    """Percentiles of the mean of subsets' mean differences, each subset drawn from by itself.

    Of n questions n - 1 are drawn (McCarthy and Snowden 1985), so that the spread of small subsets is not
    told too small. Subsets of one question are drawn from together.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    groups = [np.array(news) - np.array(olds) for olds, news in zip(before, after, strict=True)]
    alone = [each for each in groups if len(each) == 1]
    several = [each for each in groups if len(each) > 1]
    total: Any = np.zeros(RESAMPLES)
    for each in several:
        total += _means(each, draw)
    if alone:
        total += len(alone) * _means(np.concatenate(alone), draw)
    low, high = np.quantile(total / len(groups), [(1 - level) / 2, (1 + level) / 2])
    value = fmean(float(each.mean()) for each in groups)
    return min(float(low), value), max(float(high), value)


def _means(values: Any, draw: Any) -> Any:
    """Means of `RESAMPLES` samples of one value less than there are."""
    import numpy as np

    size = max(1, len(values) - 1)
    step = max(1, _AT_ONCE // size)
    parts = [
        values[draw.integers(0, len(values), (min(step, RESAMPLES - start), size))].mean(1)
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(parts)
