"""Medians and ratios of the sampling benchmark, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.sample_plan import COMPARISONS, LEDGER_AIM, SIDES

Figures = Mapping[str, Any]


def summarise(runs: Sequence[Figures]) -> dict[str, Any]:
    """Medians of each side, and our speed over each peer's, taken run by run."""
    ours = [run for run in runs if run["side"] == "autoalign"]
    return {
        "sides": [_side(runs, side, n) for n in (1, 8) for side in SIDES if _of(runs, side, n)],
        "comparisons": [
            {"peer": peer, "n": n, "aim": aim, "ratios": ratios}
            for peer, n, aim in COMPARISONS
            if (ratios := _ratios(runs, peer, n))
        ],
        "ledger_share": max((run["ledger_share"] for run in ours), default=None),
    }


def tables(summary: Figures) -> str:
    """What goes into the docs."""
    lines = [
        "| side | n | output tok/s, median | from, to | first finished row |",
        "|---|---|---|---|---|",
    ]
    for one in summary["sides"]:
        first = f"{one['first_answer']:.2f} s" if one["first_answer"] is not None else "all come at the end"
        speed = f"{one['median']:.0f} | {one['least']:.0f}, {one['most']:.0f}"
        lines.append(f"| {one['side']} | {one['n']} | {speed} | {first} |")
    lines += ["", "| autoalign over | n | ratio, median (from to) | aim | |", "|---|---|---|---|---|"]
    for one in summary["comparisons"]:
        ratios = one["ratios"]
        middle = median(ratios)
        spread = f"{middle:.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(
            f"| {one['peer']} | {one['n']} | {spread} | {one['aim']:g} x | {_met(middle >= one['aim'])} |"
        )
    share = summary["ledger_share"]
    if share is not None:
        met = _met(share < LEDGER_AIM)
        lines += [
            "",
            f"Keys and rows written: at most {share:.2%} of the time (aim under {LEDGER_AIM:.0%}: {met}).",
        ]
    return "\n".join(lines)


def brief(figures: Figures) -> str:
    """One run in a line."""
    if "per_second" not in figures:
        return ", ".join(f"{value} {key}" for key, value in figures.items() if key.startswith("prompt"))
    return f"{figures['per_second']:.1f} tok/s, {figures['tokens']} tokens in {figures['seconds']:.1f} s"


def _side(runs: Sequence[Figures], side: str, n: int) -> dict[str, Any]:
    found = _of(runs, side, n)
    speeds = [run["per_second"] for run in found]
    firsts = [run["first_answer"] for run in found if "first_answer" in run]
    return {
        "side": side,
        "n": n,
        "median": median(speeds),
        "least": min(speeds),
        "most": max(speeds),
        "first_answer": median(firsts) if firsts else None,
    }


def _ratios(runs: Sequence[Figures], peer: str, n: int) -> list[float]:
    pairs = zip(_of(runs, "autoalign", n), _of(runs, peer, n), strict=False)
    return [ours["per_second"] / theirs["per_second"] for ours, theirs in pairs]


def _of(runs: Sequence[Figures], side: str, n: int) -> list[Figures]:
    return [run for run in runs if (run["side"], run["n"]) == (side, n)]


def _met(holds: bool) -> str:
    return "met" if holds else "**missed**"
