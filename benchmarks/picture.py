"""The figures as bars: speed and peak memory, one row of panels a kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plan import UNITS

_OURS, _PEER = "#4c72b0", "#b0b0b0"


def draw(summaries: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Medians, with whiskers from the least to the most, as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        len(summaries), 2, figsize=(11, 2.6 * len(summaries)), layout="constrained", squeeze=False
    )
    for panels, (kind, summary) in zip(grid, summaries.items(), strict=True):
        _bars(panels[0], summary["per_second"], f"{kind.upper()}: {UNITS[kind]}, more is better")
        _bars(panels[1], summary["peak_mib"], f"{kind.upper()}: peak memory in MiB, less is better")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
    temporary.replace(path)


def _bars(axes: Any, spreads: Mapping[str, Any], title: str) -> None:
    names = [side.split("/")[1] for side in spreads]
    middle = [spread[0] for spread in spreads.values()]
    below = [spread[0] - spread[1] for spread in spreads.values()]
    above = [spread[2] - spread[0] for spread in spreads.values()]
    colours = [_OURS if name.startswith("autoalign") else _PEER for name in names]
    bars = axes.barh(names, middle, xerr=(below, above), color=colours, capsize=3)
    axes.bar_label(bars, [f"{value:.0f}" if value >= 20 else f"{value:.3f}" for value in middle], padding=6)
    axes.set_title(title, fontsize=10, loc="left")
    axes.margins(x=0.18)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
