"""`sample.png`: how long the answers are, why they ended, and how fast they came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoalign.atomic_files import replacing
from autoalign.sampling.figures import Figures, Timeline

NAME = "sample.png"
_BINS = 40
# Okabe and Ito's colours, which people who see few colours can tell apart.
_BLUE, _ORANGE, _GREEN, _RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
_COLOURS = {"stop": _GREEN, "length": _ORANGE, "error": _RED}


def draw(figures: Figures, picture: Path, title: str) -> None:
    """Three panels; the picture appears under its name when it is complete."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    _draw_lengths(figures, axes[0])
    _draw_reasons(figures, axes[1])
    _draw_speed(figures.tokens, axes[2])
    figure.suptitle(title)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)


def _draw_lengths(figures: Figures, axes: Any) -> None:
    lengths, counts = list(figures.lengths), list(figures.lengths.values())
    low, high = min(lengths, default=0), max(lengths, default=0)
    width = max(1, -(-(high - low + 1) // _BINS))
    edges = [low + width * step - 0.5 for step in range((high - low) // width + 2)]
    axes.hist(lengths, bins=edges, weights=counts, color=_BLUE, edgecolor="white", linewidth=0.4)
    axes.axvline(figures.length(0.5), color="black", linewidth=1, linestyle=":", label="median")
    axes.legend(frameon=False)
    axes.set(xlabel="output tokens", ylabel="answers", title="length")


def _draw_reasons(figures: Figures, axes: Any) -> None:
    reasons = figures.reasons.most_common()
    colours = [_COLOURS.get(name, _BLUE) for name, _ in reasons]
    bars = axes.bar([name for name, _ in reasons], [count for _, count in reasons], color=colours)
    axes.bar_label(bars, fmt="{:,.0f}")
    axes.set(ylabel="answers", title="finish reason")


def _draw_speed(tokens: Timeline, axes: Any) -> None:
    # The last bin is only partly over.
    rates = [amount / tokens.width for amount in tokens.bins[:-1] or tokens.bins]
    edges = [tokens.width * step for step in range(len(rates) + 1)]
    axes.stairs(rates, edges, color=_BLUE, fill=True, alpha=0.35)
    axes.stairs(rates, edges, color=_BLUE, linewidth=1.4)
    axes.set(
        xlabel="seconds since the engine was ready",
        ylabel="output tokens of answers that finished, per second",
        title="speed",
    )
