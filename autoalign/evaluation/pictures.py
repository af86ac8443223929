"""Results as pictures: bars with their intervals, or a radar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.atomic_files import replacing
from autoalign.evaluation.results import Result

Rows = Mapping[str, Sequence[Result]]
_SHARES = "%, with 95% intervals"
_HIGHEST = {"%": 100, "grade": 10, "overall": 10}
# Okabe and Ito's colours, which people who see few colours can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def bars(rows: Rows, picture: Path) -> None:
    """A group of bars for each figure, a colour for each model; nothing without figures.

    Figures with a unit of their own, as grades, have a panel for each metric beside that of the shares.
    """
    panels = {name: each for name, each in _panels(rows).items() if each[0]}
    if not panels:
        return
    pyplot = _pyplot()
    sizes = [len(names) + 1 for names, _ in panels.values()]
    wide = max(5.0, 1.4 * (sum(sizes) - len(sizes)) * len(rows) ** 0.5 + 1.2 * len(sizes))
    figure, found = pyplot.subplots(
        1, len(panels), figsize=(wide, 4.8), layout="constrained", squeeze=False, width_ratios=sizes
    )
    for axes, (label, (names, shown)) in zip(found[0], panels.items(), strict=True):
        _draw(axes, names, shown)
        axes.set_ylabel(label)
        if top := _HIGHEST.get(label.split(",")[0]):
            axes.set_ylim(0, top)
    models = found[0][0].get_legend_handles_labels()
    figure.legend(*models, frameon=False, loc="outside upper center", ncols=4)
    _save(figure, picture)


def _draw(axes: Any, names: Sequence[str], shown: Mapping[str, Mapping[str, Result]]) -> None:
    """One panel."""
    width = 0.8 / len(shown)
    for place, (model, results) in enumerate(shown.items()):
        found = [(number, results[name]) for number, name in enumerate(names) if name in results]
        places = [number + (place - (len(shown) - 1) / 2) * width for number, _ in found]
        values = [result.value or 0.0 for _, result in found]
        errors = list(zip(*(_arms(result) for _, result in found), strict=True))
        colour = _COLOURS[place % len(_COLOURS)]
        axes.bar(places, values, width, yerr=errors or None, capsize=3, label=model, color=colour)
    axes.set_xticks(
        range(len(names)),
        [name.replace(" ", "\n", 1) for name in names],
        rotation=0 if len(names) < 8 else 60,
    )
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def radar(rows: Rows, picture: Path) -> None:
    """A spoke for each share that every model has; needs three of them, else bars are drawn."""
    every, shown = _shares(rows)
    names = [name for name in every if all(name in results for results in shown.values())]
    if len(names) < 3:
        bars(rows, picture)
        return
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6.4, 6), layout="constrained", subplot_kw={"polar": True})
    angles = [2 * math.pi * number / len(names) for number in range(len(names))]
    for place, (model, results) in enumerate(shown.items()):
        values = [results[name].value or 0.0 for name in names]
        colour = _COLOURS[place % len(_COLOURS)]
        axes.plot([*angles, angles[0]], [*values, values[0]], color=colour, label=model)
        axes.fill([*angles, angles[0]], [*values, values[0]], color=colour, alpha=0.1)
    axes.set_xticks(angles, names)
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, -0.15), ncols=4)
    _save(figure, picture)


def _arms(result: Result) -> tuple[float, float]:
    """How far the interval reaches down and up."""
    value = result.value or 0.0
    low = value if result.low is None else result.low
    high = value if result.high is None else result.high
    return max(0.0, value - low), max(0.0, high - value)  # a last digit may be off, which is no arm


def _panels(rows: Rows) -> dict[str, tuple[list[str], dict[str, dict[str, Result]]]]:
    """The shares, then a panel for each metric with a unit of its own; turns of one metric stand together."""
    panels = {_SHARES: _shares(rows)}
    own = [each for results in rows.values() for each in results if each.value is not None and not each.unit]
    for metric in dict.fromkeys(each.metric.split()[0] for each in own):
        shown = {
            model: {
                each.key: each
                for each in results
                if each.value is not None and not each.unit and each.metric.split()[0] == metric
            }
            for model, results in rows.items()
        }
        names = list(dict.fromkeys(name for results in shown.values() for name in results))
        panels[f"{metric}, with 95% intervals"] = (names, shown)
    return panels


def _shares(rows: Rows) -> tuple[list[str], dict[str, dict[str, Result]]]:
    """The names of all shares, and each model's."""
    shown = {
        model: {each.key: each for each in results if each.value is not None and each.unit == "%"}
        for model, results in rows.items()
    }
    return list(dict.fromkeys(name for results in shown.values() for name in results)), shown


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, picture: Path) -> None:
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    _pyplot().close(figure)
