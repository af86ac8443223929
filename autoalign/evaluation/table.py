"""The table of results: `ordered_res.csv`, and `ordered_res.txt` for eyes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from autoalign.evaluation.results import PERCENT, Result

Rows = Mapping[str, Sequence[Result]]
_BAR = 50  # characters


def columns(rows: Rows) -> dict[str, list[str]]:
    """Column name to the keys of its results; a benchmark of several metrics has a column for each."""
    metrics: dict[str, list[str]] = {}
    for results in rows.values():
        for result in results:
            known = metrics.setdefault(result.benchmark, [])
            if result.error is None and result.metric not in known:
                known.append(result.metric)
    named: dict[str, list[str]] = {}
    for benchmark, known in metrics.items():
        if len(known) < 2:
            named[benchmark] = [f"{benchmark} {metric}" for metric in known]
        else:
            named.update({f"{benchmark} {metric}": [f"{benchmark} {metric}"] for metric in known})
    return named


def cells(rows: Rows) -> list[list[str]]:
    """The header, then a row for each model; what a model was not asked is `-`."""
    named = columns(rows)
    lines = [["model", *named]]
    for model, results in rows.items():
        by_key = {result.key: result for result in results}
        failed = {result.benchmark: result for result in results if result.error is not None}
        lines.append([model, *(_cell(name, keys, by_key, failed) for name, keys in named.items())])
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


def _cell(name: str, keys: Sequence[str], by_key: Mapping[str, Result], failed: Mapping[str, Result]) -> str:
    found = next((by_key[key] for key in keys if key in by_key), None)
    if found is None:
        benchmark = next((each for each in failed if name == each or name.startswith(f"{each} ")), None)
        found = failed[benchmark] if benchmark else None
    return found.cell() if found else "-"
