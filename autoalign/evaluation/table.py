"""The table of results: `ordered_res.csv`, and `ordered_res.txt` for eyes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from autoalign.evaluation.results import PERCENT, Result

Rows = Mapping[str, Sequence[Result]]
_BAR = 50  # characters


class Column(NamedTuple):
    """A figure of a benchmark; the metric is None where the whole benchmark failed for every model."""

    benchmark: str
    metric: str | None


def columns(rows: Rows) -> dict[str, Column]:
    """By name; a benchmark of several metrics has a column for each, also for those that failed alone."""
    metrics: dict[str, list[str]] = {}
    for results in rows.values():
        for result in results:
            known = metrics.setdefault(result.benchmark, [])
            if not result.failed_whole and result.metric not in known:
                known.append(result.metric)
    named: dict[str, Column] = {}
    for benchmark, known in metrics.items():
        if len(known) < 2:
            named[benchmark] = Column(benchmark, known[0] if known else None)
        else:
            named.update({f"{benchmark} {metric}": Column(benchmark, metric) for metric in known})
    return named


def cells(rows: Rows) -> list[list[str]]:
    """The header, then a row for each model; what a model was not asked is `-`."""
    named = columns(rows)
    lines = [["model", *named]]
    for model, results in rows.items():
        lines.append([model, *(_cell(column, results) for column in named.values())])
    return lines


def csv_text(rows: Rows) -> str:
    """Comma-separated, with a header."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(cells(rows))
    return buffer.getvalue()


def plain_text(rows: Rows) -> str:
    """A benchmark a line: easy to read however many there are."""
    header, *lines = cells(rows)
    table = [["benchmark", *(line[0] for line in lines)]]
    table += [[name, *(line[place] for line in lines)] for place, name in enumerate(header) if place]
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    shown = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([shown[0], rule, *shown[1:]]) + "\n"


def chart(rows: Rows) -> list[str]:
    """The figures that are shares as bars from 0 to 100%, `-` where the interval reaches; [] without any."""
    shares = [
        (result.key if len(rows) == 1 else f"{result.key}, {model}", result)
        for model, results in rows.items()
        for result in results
        if result.value is not None and result.unit == "%" and result.error is None
    ]
    width = max((len(name) for name, _ in shares), default=0)
    return [f"{name.ljust(width)}  |{_bar(result)}| {result.value:.1f}%" for name, result in shares]


def _bar(result: Result) -> str:
    value, width = result.value or 0.0, _BAR / PERCENT
    low = value if result.low is None else result.low
    high = value if result.high is None else result.high
    filled, first, last = round(value * width), round(low * width), round(high * width)
    cells = ["#" if place < filled else " " for place in range(_BAR)]
    cells[first:last] = ["=" if place < filled else "-" for place in range(first, last)]
    return "".join(cells)


def _cell(column: Column, results: Sequence[Result]) -> str:
    """The figure, why it or its benchmark failed, or `-`."""
    own = [result for result in results if result.benchmark == column.benchmark]
    figure = next((result for result in own if result.metric == column.metric), None)
    found = figure or next((result for result in own if result.failed_whole), None)
    return found.cell() if found else "-"
