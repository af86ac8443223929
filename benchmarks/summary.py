"""Medians and ratios of a run, and the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.plan import COMPARISONS, MEMORY_AIM, SIDES, UNITS

Run = Mapping[str, Any]
GEMM_AIM = 0.65


class Spread(NamedTuple):
    """Median, least and most."""

    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1])


def runs_of(runs: Sequence[Run], side: str) -> list[Run]:
    """A side's runs, in order."""
    return [run for run in runs if run["side"] == side]


def summarise(runs: Sequence[Run], kind: str) -> dict[str, Any]:
    """Speeds, peaks and ratios (run by run) of a kind, and of the GEMM limit what `sft` attains."""
    sides = [side for side in SIDES[kind] if not side.endswith("gemm")]
    summary: dict[str, Any] = {
        "per_second": {side: spread(run["per_second"] for run in runs_of(runs, side)) for side in sides},
        "peak_mib": {side: spread(run["peak_mib"] for run in runs_of(runs, side)) for side in sides},
        "comparisons": [
            {"ours": one.ours, "peer": one.peer, "aim": one.aim, **_ratios(runs, one.ours, one.peer)}
            for one in COMPARISONS
            if one.ours.startswith(kind)
        ],
    }
    if kind == "sft":
        summary["gemm"] = _gemm(runs)
    return summary


def _ratios(runs: Sequence[Run], ours: str, peer: str) -> dict[str, Spread]:
    pairs = list(zip(runs_of(runs, ours), runs_of(runs, peer), strict=True))
    return {
        "speed": spread(mine["per_second"] / theirs["per_second"] for mine, theirs in pairs),
        "memory": spread(mine["peak_mib"] / theirs["peak_mib"] for mine, theirs in pairs),
    }


def _gemm(runs: Sequence[Run]) -> dict[str, Any]:
    limits, ours = runs_of(runs, "sft/gemm"), runs_of(runs, "sft/autoalign")
    attained = [
        limit["needed_flops"] / run["seconds"] / limit["flops_per_second"]
        for limit, run in zip(limits, ours, strict=True)
    ]
    return {
        "limit_gflops": spread(limit["flops_per_second"] / 1e9 for limit in limits),
        "share": spread(attained),
        "aim": GEMM_AIM,
    }


def tables(summaries: Mapping[str, Mapping[str, Any]], layouts: Mapping[str, str]) -> str:
    """Markdown: one table of sides and one of ratios a kind, and a line about the GEMM limit."""
    parts = []
    for kind, summary in summaries.items():
        parts += [_speeds(summary, kind, layouts), _comparisons(summary)]
        if "gemm" in summary:
            parts.append(_gemm_line(summary["gemm"]))
    return "\n\n".join(parts)


def _speeds(summary: Mapping[str, Any], kind: str, layouts: Mapping[str, str]) -> str:
    lines = [
        f"| {kind.upper()} | {UNITS[kind]}, median | least to most | peak memory, MiB |",
        "|---|---|---|---|",
    ]
    for side, speed in summary["per_second"].items():
        name = side.split("/")[1] + (f" ({layouts[side]})" if layouts.get(side) else "")
        numbers = [_number(value) for value in speed]
        peak = summary["peak_mib"][side][0]
        lines.append(f"| {name} | {numbers[0]} | {numbers[1]} to {numbers[2]} | {peak:.0f} |")
    return "\n".join(lines)


def _comparisons(summary: Mapping[str, Any]) -> str:
    lines = [
        "| AutoAlign over | speed, median (least to most) | aim | | peak memory | aim | |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in summary["comparisons"]:
        speed, memory = one["speed"], one["memory"]
        ours, peer = one["ours"].split("/")[1], one["peer"].split("/")[1]
        times = f"{speed[0]:.2f} x ({speed[1]:.2f} to {speed[2]:.2f})"
        lines.append(
            f"| {peer} (by {ours}) | {times} | {one['aim']:g} x | "
            f"{_verdict(speed[0] >= one['aim'])} | {memory[0]:.2f} x | {MEMORY_AIM} x | "
            f"{_verdict(memory[0] <= MEMORY_AIM)} |"
        )
    return "\n".join(lines)


def _gemm_line(gemm: Mapping[str, Any]) -> str:
    limit, share = gemm["limit_gflops"], gemm["share"]
    return (
        f"Matrix products of the model's shapes alone: {limit[0]:.0f} GFLOP/s in bfloat16 "
        f"({limit[1]:.0f} to {limit[2]:.0f}). SFT attains {100 * share[0]:.0f}% of that limit for the tokens "
        f"trained ({100 * share[1]:.0f}% to {100 * share[2]:.0f}%); aim {100 * gemm['aim']:.0f}%: "
        f"{_verdict(share[0] >= gemm['aim'])}."
    )


def profile_table(profile: Mapping[str, Any]) -> str:
    """Markdown: shares of self CPU time by group, then the largest operations."""
    groups = "\n".join(f"| {name} | {share:.1f}% |" for name, share in profile["groups"].items())
    operations = ", ".join(f"`{name}` {share:.1f}%" for name, share in profile["operations"].items())
    return (
        f"| part of {profile['steps']} step(s) | self CPU time |\n|---|---|\n{groups}\n\n"
        f"Largest operations: {operations}."
    )


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.3f}"
