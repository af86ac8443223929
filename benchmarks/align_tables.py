"""Figures of several seeds as one table: means, spread, and how many seeds went where they should."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Proof, then seed, to its figures."""

_HEAD = "| proof | figure | before | after | change | seeds as wanted |"


def table(found: Results) -> str:
    """Markdown: mean ± standard deviation over the seeds."""
    lines = [_HEAD, "|---|---|---|---|---|---|"]
    for proof, seeds in found.items():
        for place, first in enumerate(next(iter(seeds.values()))["figures"]):
            figures = [seed["figures"][place] for seed in seeds.values()]
            before, after = ([one[side] for one in figures] for side in ("before", "after"))
            changes = [new - old for old, new in zip(before, after, strict=True)]
            good = sum(as_wanted(first["wanted"], change) for change in changes)
            cells = [f"`{proof}`", first["name"], spread(before), spread(after), spread(changes, "+")]
            lines.append(f"| {' | '.join(cells)} | {good} of {len(figures)} {first['wanted']} |")
    return "\n".join(lines)


def as_wanted(wanted: str, change: float) -> bool:
    """Whether a figure went up, went down, or was kept: did not fall."""
    return {"up": change > 0, "down": change < 0, "kept": change >= 0}[wanted]


def spread(values: Sequence[float], sign: str = "") -> str:
    """`0.51 ± 0.08`: mean and standard deviation of a sample; the value alone where there is but one."""
    mean = statistics.fmean(values)
    digits = 1 if max(map(abs, values)) >= 10 else 2
    shown = f"{mean:{sign}.{digits}f}"
    return shown if len(values) < 2 else f"{shown} ± {statistics.stdev(values):.{digits}f}"


def circumstances(found: Results) -> str:
    """When and on what, and the minutes of a seed."""
    runs = [seed for seeds in found.values() for seed in seeds.values()]
    days = sorted({str(run["date"])[:10] for run in runs})
    commits = ", ".join(dict.fromkeys(run["commit"] for run in runs))
    loads = [run["load_at_start"] for run in runs]
    versions = ", ".join(f"{name} {version}" for name, version in runs[-1]["versions"].items())
    minutes = ", ".join(
        f"`{proof}` {statistics.fmean(seed['seconds'] for seed in seeds.values()) / 60:.1f}"
        for proof, seeds in found.items()
    )
    return (
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, commit {commits}; {runs[-1]['processor']}, "
        f"{runs[-1]['cpus']} CPUs, load {min(loads)} to {max(loads)} at the starts; {versions}. "
        f"Minutes a seed: {minutes}."
    )
