"""The scores in the rows of a file: gathered by name, and their figures."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from autoalign.curation.scores import scores_of
from autoalign.formats import Record


class Scores:
    """Lets records through and keeps the numbers of their scores, eight bytes each."""

    def __init__(self) -> None:
        self.values: dict[str, array[float]] = {}

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records."""
        for record in records:
            for name, value in _found(record.extra).items():
                self.values.setdefault(name, array("d")).append(value)
            yield record

    def lines(self) -> Iterator[str]:
        """A table with a line for each score; nothing where there is none."""
        if self.values:
            yield ""
            heads = ("count", "mean", "min", "q1", "median", "q3", "max")
            yield f"{'score':20}" + "".join(f"{head:>10}" for head in heads)
        for name, values in self.values.items():
            low, middle, high = quartiles(values)
            figures = (statistics.fmean(values), min(values), low, middle, high, max(values))
            yield f"{name:<20}{len(values):>10,}" + "".join(f"{figure:>10.4g}" for figure in figures)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile, interpolated between values. `values`: at least one."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _found(row: Mapping[str, Any]) -> dict[str, float]:
    """Scores of a sample by name; of a pair by name and side, as `score` and `data pairs` write them."""
    found = scores_of(row)
    scores = row.get("scores")
    for name, sides in scores.items() if isinstance(scores, Mapping) else ():
        if isinstance(sides, Mapping):
            found |= {f"{name} {side}": float(value) for side, value in sides.items() if _is_number(value)}
    for side in ("chosen", "rejected"):
        if _is_number(value := row.get(f"score_{side}")):
            found[f"{row.get('score', 'score')} {side}"] = float(value)
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
