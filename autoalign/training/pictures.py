"""`loss.png`, and where there are rewards `rewards.png`, from the rows of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.atomic_files import replacing

LOSS_NAME, REWARDS_NAME = "loss.png", "rewards.png"
Rows = Sequence[Mapping[str, Any]]

# Okabe and Ito's colours, which people who see few colours can tell apart.
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"
_REWARDS = {"rewards/chosen": _GREEN, "rewards/rejected": _ORANGE, "rewards/margins": _BLUE}


def draw(rows: Rows, folder: Path, title: str) -> None:
    """Draw what the rows hold into `folder`; nothing when no step was logged."""
    if not any("loss" in row for row in rows):
        return
    _save(folder / LOSS_NAME, title, 1, lambda axes: _draw_loss(rows, axes[0]))
    if any("rewards/margins" in row for row in rows):
        _save(folder / REWARDS_NAME, title, 2, lambda axes: _draw_rewards(rows, axes))
    elif any("reward" in row for row in rows):
        _save(folder / REWARDS_NAME, title, 2, lambda axes: _draw_rewards_of_answers(rows, axes))


def _draw_loss(rows: Rows, axes: Any) -> None:
    _draw_training(rows, "loss", axes, _BLUE, "training")
    _draw_evaluation(rows, "loss", axes, _ORANGE, "evaluation")
    axes.set(xlabel="step", ylabel="loss")


def _draw_rewards(rows: Rows, axes: Sequence[Any]) -> None:
    for name, colour in _REWARDS.items():
        label = name.removeprefix("rewards/")
        _draw_training(rows, name, axes[0], colour, label)
        _draw_evaluation(rows, name, axes[0], colour, f"{label}, evaluation")
    axes[0].axhline(0, color="black", linewidth=0.8)
    axes[0].set(xlabel="step", ylabel="reward")
    _draw_training(rows, "rewards/accuracies", axes[1], _BLUE, "training")
    _draw_evaluation(rows, "rewards/accuracies", axes[1], _ORANGE, "evaluation")
    axes[1].axhline(0.5, color="black", linewidth=0.8, linestyle=":", label="chance")
    axes[1].set(xlabel="step", ylabel="share of pairs with the higher reward for chosen", ylim=(-0.02, 1.02))


def _draw_rewards_of_answers(rows: Rows, axes: Sequence[Any]) -> None:
    """Rewards on the left; on the right what should not follow them: length, groups without a spread."""
    _draw_training(rows, "reward", axes[0], _BLUE, "answers of the step")
    _draw_evaluation(rows, "reward", axes[0], _ORANGE, "evaluation, greedy")
    axes[0].set(xlabel="step", ylabel="mean reward")
    shares = {
        "frac_reward_zero_std": (_ORANGE, "groups of equal rewards"),
        "completions/clipped_ratio": (_GREEN, "answers that were cut off"),
    }
    for name, (colour, label) in shares.items():
        _draw_training(rows, name, axes[1], colour, label)
    axes[1].set(xlabel="step", ylabel="share", ylim=(-0.02, 1.02))
    lengths = axes[1].twinx()
    steps, values = _series(rows, "completions/mean_length")
    lengths.plot(steps, smooth(values), color=_BLUE, linestyle=":", linewidth=1.8)
    lengths.set_ylabel("tokens of an answer (dotted)")
    lengths.set_ylim(bottom=0)


def _draw_training(rows: Rows, name: str, axes: Any, colour: str, label: str) -> None:
    """The values as they are, faint, and their moving average."""
    steps, values = _series(rows, name)
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
    axes.plot(steps, smooth(values), color=colour, linewidth=1.8, label=label)


def _draw_evaluation(rows: Rows, name: str, axes: Any, colour: str, label: str) -> None:
    steps, values = _series(rows, f"eval_{name}")
    if steps:
        axes.plot(steps, values, color=colour, linestyle="--", marker="o", markersize=5, label=label)


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


def _save(picture: Path, title: str, panels: int, plot: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, panels, figsize=(7 * (1 + panels) / 2, 4.8), layout="constrained", squeeze=False
    )
    plot(grid[0])
    figure.suptitle(title)
    for axes in grid[0]:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        # Below the axes, where it hides no line.
        axes.legend(frameon=False, fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
