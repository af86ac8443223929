"""A benchmark's figures, what they were counted from, and the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from autoalign.atomic_files import write_text
from autoalign.intervals import RESAMPLES, Interval, bootstrap_mean, wilson

PERCENT = 100.0
_DRAWS = 2_000_000  # of one bootstrap, so that a set of 14,000 questions takes seconds
_PRIOR = 2.0  # questions, of all that is known of a subset of one


@dataclass(frozen=True)
class Question:
    """One question as it went.

    Attributes:
        id: the same for every model that is asked it.
        score: 0 to 1 for a percentage, else in the metric's own unit; None where there is none.
        prompt: what was asked, as text.
        answers: what the model said, one a run.
        details: how the score came about (JSON values).
    """

    id: str
    score: float | None
    prompt: str = ""
    answers: tuple[str, ...] = ()
    reference: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A figure of a benchmark with its 95% interval, or why there is none (`error`).

    Attributes:
        metric: what is measured, as `accuracy`.
        unit: `%` for shares, or "" for a metric with a unit of its own.
        group: names with the same one stand in one picture; of a subset, the set it belongs to.
        higher_is_better: None where neither is.
    """

    benchmark: str
    metric: str
    count: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = "%"
    error: str | None = None
    group: str | None = None
    higher_is_better: bool | None = True
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What no other result of a model has."""
        return f"{self.benchmark} {self.metric}"

    @property
    def is_macro(self) -> bool:
        """Whether it is the plain mean of several subsets' figures."""
        return isinstance(self.notes.get("subsets"), int)

    @property
    def failed_whole(self) -> bool:
        """Whether it says why a benchmark has no figure at all; else an error is the metric's alone."""
        return self.error is not None and not self.metric

    def cell(self) -> str:
        """As it stands in a table."""
        if self.error is not None or self.value is None:
            return f"failed: {self.error or 'no figure'}"
        text = f"{self.value:.2f}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{text} {self.metric}, n={self.count}"


def interval_of(scores: Sequence[float], seed: int = 42) -> Interval:
    """The mean of `scores` with its 95% interval: Wilson's for rights and wrongs, else the bootstrap.

    Shares that are all alike, as ties, have Wilson's too: by the bootstrap they could not be otherwise.

    Raises:
        ValueError: no scores.
    """
    alike = are_alike(scores) and 0 <= scores[0] <= 1
    if scores and (alike or all(score in (0.0, 1.0) for score in scores)):
        return wilson(sum(scores), len(scores))
    resamples = max(200, min(RESAMPLES, _DRAWS // max(len(scores), 1)))
    return bootstrap_mean(scores, resamples=resamples, seed=seed)


def are_alike(scores: Iterable[float]) -> bool:
    """Whether there is one value among them: then drawing from them tells nothing of how they vary."""
    return len(set(scores)) == 1


def result_of(
    benchmark: str,
    metric: str,
    questions: Iterable[Question],
    *,
    unit: str = "%",
    higher_is_better: bool | None = True,
    notes: Mapping[str, Any] | None = None,
) -> Result:
    """The mean score of the questions that have one; how many have none is in the notes (`left_out`).

    Scores of another unit that are all alike, as one alone, say nothing of how scores vary: they have no
    interval.
    """
    every = [question.score for question in questions]
    scores = [score for score in every if score is not None]
    if not scores:
        return Result(benchmark, metric, error="no question has a score", unit=unit)
    scale = PERCENT if unit == "%" else 1.0
    is_share = unit == "%" and all(0 <= score <= 1 for score in scores)
    value, low, high = (scale * figure for figure in interval_of(scores))
    known = is_share or not are_alike(scores)
    interval: tuple[float | None, float | None] = (low, high) if known else (None, None)
    left_out = {"left_out": len(every) - len(scores)} if len(scores) < len(every) else {}
    return Result(
        benchmark, metric, len(scores), value, *interval, unit,
        higher_is_better=higher_is_better, notes={**(notes or {}), **left_out},
    )  # fmt: skip


def macro_average(benchmark: str, metric: str, parts: Sequence[Sequence[float]]) -> Result:
    """The plain mean of several subsets' percentages, as MMLU is reported.

    Raises:
        ValueError: a subset without scores, or none.
    """
    sizes = [len(part) for part in parts]
    variances = [variance(part) if len(part) > 1 else 0.0 for part in parts]
    value, low, high = (
        PERCENT * figure for figure in interval_of_means(sizes, list(map(fmean, parts)), variances)
    )
    return Result(benchmark, metric, sum(sizes), value, low, high, notes={"subsets": len(parts)})


def interval_of_means(
    sizes: Sequence[int],
    means: Sequence[float],
    variances: Sequence[float],
    weights: Sequence[float] | None = None,
) -> Interval:
    """The mean of several subsets' shares with its 95% interval.

    Wilson's, with as many questions as would give a share `p` of all this variance:
    `p (1 - p) / v`, where `v = sum(w_k^2 s_k^2 / n_k)`. So it keeps its level for weak models, and is never
    of no width. A small subset's variance is hardly known from its own questions (0 where all went alike), so
    each is taken together with two questions of variance `p (1 - p)`.

    Args:
        sizes: questions of each subset, `n_k`.
        variances: of its scores (`n_k - 1` in the denominator, 0 for one question), `s_k^2`.
        weights: of each subset in the mean, with the sum 1, `w_k`; None: all the same.

    Raises:
        ValueError: no subsets.
    """
    share = fmean(means, weights)
    squares = [weight**2 for weight in weights or [1 / len(sizes)] * len(sizes)]
    whole = share * (1 - share)
    if whole > 0:
        taken = [
            ((size - 1) * own + _PRIOR * whole) / (size - 1 + _PRIOR)
            for size, own in zip(sizes, variances, strict=True)
        ]
        rows = zip(squares, taken, sizes, strict=True)
        trials = whole / sum(square * own / size for square, own, size in rows)
    else:  # all wrong, or all right
        trials = 1 / sum(square / size for square, size in zip(squares, sizes, strict=True))
    _, low, high = wilson(share * max(trials, 1.0), max(trials, 1.0))
    return Interval(share, min(share, low), max(share, high))


def with_value(result: Result, value: float) -> Result:
    """The same with a figure told elsewhere, to its last digit; its interval is made to hold it."""
    low = None if result.low is None else min(result.low, value)
    high = None if result.high is None else max(result.high, value)
    return replace(result, value=value, low=low, high=high)


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """One question a line."""
    lines = [json.dumps(asdict(each), ensure_ascii=False, default=str) for each in questions]
    write_text(path, "".join(line + "\n" for line in lines))


def read_questions(path: Path) -> list[Question]:
    """The inverse of `write_questions`."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return [Question(**{**row, "answers": tuple(row["answers"])}) for row in rows]


def write_results(path: Path, results: Sequence[Result]) -> None:
    """A JSON list of results."""
    write_text(path, json.dumps([asdict(each) for each in results], ensure_ascii=False, indent=1) + "\n")


def read_results(path: Path) -> list[Result]:
    """The inverse of `write_results`."""
    return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
