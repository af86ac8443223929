"""`loss.png`, and for preference training `rewards.png`, from the rows of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOSS_NAME, REWARDS_NAME = "loss.png", "rewards.png"
Rows = Sequence[Mapping[str, Any]]


def draw(rows: Rows, folder: Path) -> None:
    """Draw what the rows hold; nothing when no step was logged."""
    if not any("loss" in row for row in rows):
        return
    _save(folder / LOSS_NAME, 1, lambda axes: _draw_loss(rows, axes[0], folder.name))
    if any("rewards/margins" in row for row in rows):
        _save(folder / REWARDS_NAME, 2, lambda axes: _draw_rewards(rows, axes, folder.name))


def _draw_loss(rows: Rows, axes: Any, title: str) -> None:
    steps, losses = _series(rows, "loss")
    axes.plot(steps, losses, color="#4c72b0", alpha=0.35, linewidth=1, label="loss")
    axes.plot(steps, smooth(losses), color="#4c72b0", label="smoothed")
    at, evaluation = _series(rows, "eval_loss")
    if at:
        axes.plot(at, evaluation, color="#dd8452", marker="o", label="evaluation")
    axes.set(xlabel="step", ylabel="loss", title=title)


def _draw_rewards(rows: Rows, axes: Sequence[Any], title: str) -> None:
    colours = {"rewards/chosen": "#55a868", "rewards/rejected": "#c44e52", "rewards/margins": "#4c72b0"}
    for name, colour in colours.items():
        steps, values = _series(rows, name)
        axes[0].plot(steps, smooth(values), color=colour, label=name.removeprefix("rewards/"))
    axes[0].set(xlabel="step", ylabel="reward (smoothed)", title=title)
    steps, values = _series(rows, "rewards/accuracies")
    axes[1].plot(steps, smooth(values), color="#4c72b0", label="training")
    at, evaluation = _series(rows, "eval_rewards/accuracies")
    if at:
        axes[1].plot(at, evaluation, color="#dd8452", marker="o", label="evaluation")
    axes[1].set(xlabel="step", ylabel="share of pairs the right way round", ylim=(0, 1.02))


def _series(rows: Rows, name: str) -> tuple[list[int], list[float]]:
    found = [row for row in rows if name in row]
    return [row["step"] for row in found], [row[name] for row in found]


def smooth(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Exponential moving average, corrected for its start."""
    smoothed, average, mass = [], 0.0, 0.0
    for value in values:
        average = weight * average + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        smoothed.append(average / mass)
    return smoothed


def _save(picture: Path, panels: int, plot: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, panels, figsize=(7 * (1 + panels) / 2, 4), layout="constrained", squeeze=False
    )
    plot(grid[0])
    for axes in grid[0]:
        axes.grid(alpha=0.3)
        axes.legend()
    temporary = picture.with_name(f".{picture.name}.tmp")
    figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
    temporary.replace(picture)
