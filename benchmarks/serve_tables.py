"""Figures of `benchmarks.serve` as a table, next to the aims."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

OURS, BARE = "autoalign", "vllm"
SPEED, MEDIAN_MS, P99_MS = 0.97, 5.0, 15.0  # the aims, against vLLM's own server


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a load and side: medians over the rounds, and ratios taken round by round."""
    rows = []
    for load in dict.fromkeys(run["load"] for run in runs):
        of_load = [run for run in runs if run["load"] == load]
        bare = {run["round"]: run for run in of_load if run["side"] == BARE}
        for side in dict.fromkeys(run["side"] for run in of_load):
            mine = [run for run in of_load if run["side"] == side]
            rows.append({"load": load, "side": side, **_figures(mine, bare)})
    return rows


def _figures(mine: Sequence[dict[str, Any]], bare: dict[int, dict[str, Any]]) -> dict[str, Any]:
    first = [second for run in mine for second in run["first_token"]]
    bare_first = [second for run in bare.values() for second in run["first_token"]]
    ratios = [
        run["tokens_per_second"] / bare[run["round"]]["tokens_per_second"]
        for run in mine
        if run["round"] in bare
    ]
    figures = {
        "tokens_per_second": statistics.median(run["tokens_per_second"] for run in mine),
        "first_median": statistics.median(first),
        "first_p99": _p99(first),
    }
    if ratios:
        figures |= {
            "speed": statistics.median(ratios),
            "speed_least": min(ratios),
            "speed_most": max(ratios),
            "median_ms": (figures["first_median"] - statistics.median(bare_first)) * 1000,
            "p99_ms": (figures["first_p99"] - _p99(bare_first)) * 1000,
        }
    return figures


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; a whole answer's time is not its first token's, so it has none."""
    lines = [
        "| load | server | tokens/s | of vLLM's own (least to most) | first token, median | p99 |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_line, rows)])


def _line(row: dict[str, Any]) -> str:
    streamed = "streamed" in row["load"]
    ratio, median, p99 = "", "", ""
    if "speed" in row and row["side"] != BARE:
        ratio = f"{row['speed']:.2f} x ({row['speed_least']:.2f} to {row['speed_most']:.2f})"
        median, p99 = f", {row['median_ms']:+.0f} ms", f", {row['p99_ms']:+.0f} ms"
    if row["side"] == OURS and "speed" in row:
        ratio += _verdict(row["speed"] >= SPEED)
        median += _verdict(row["median_ms"] <= MEDIAN_MS)
        p99 += _verdict(row["p99_ms"] <= P99_MS)
    cells = [f"{row['first_median'] * 1000:.0f} ms{median}", f"{row['first_p99'] * 1000:.0f} ms{p99}"]
    speed = f"{row['tokens_per_second']:.0f}"
    return f"| {' | '.join([row['load'], row['side'], speed, ratio, *(cells if streamed else ('', ''))])} |"


def _verdict(met: bool) -> str:
    return " met" if met else " **missed**"


def _p99(values: Sequence[float]) -> float:
    """The value that 1% of them lie above: of few values, the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
