"""Histograms of a data file, as one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoalign.atomic_files import replacing

COLUMNS, BINS = 3, 40
_COLOUR = "#0072b2"


def draw(panels: Mapping[str, Sequence[float]], picture: Path, title: str) -> None:
    """A panel for each name, which labels its axis; each has at least one value.

    The picture appears under its name when it is complete.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure, grid = pyplot.subplots(
        lines, columns, figsize=(4.6 * columns, 3.4 * lines), layout="constrained", squeeze=False
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (name, values) in zip(grid.flat, panels.items(), strict=False):
        axes.hist(values, bins=edges(values), color=_COLOUR, edgecolor="white", linewidth=0.4)
        axes.set(xlabel=name, ylabel="rows")
        if _whole(values):
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)


def edges(values: Sequence[float]) -> list[float]:
    """Where the bars begin and end, at most 40 of equal width; of whole numbers each bar holds as many."""
    low, high = min(values), max(values)
    if _whole(values):
        width = math.ceil((high - low + 1) / BINS)
        return [low - 0.5 + width * step for step in range(math.ceil((high - low + 1) / width) + 1)]
    if low == high:
        return [low - 0.5, low + 0.5]
    return [low + (high - low) * step / BINS for step in range(BINS + 1)]


def _whole(values: Sequence[float]) -> bool:
    return all(float(value).is_integer() for value in values)
