"""What is logged of a step's answers; names as in TRL where it has them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autoalign.losses.advantages import combined
from autoalign.reinforcement.rewards import Rewards
from autoalign.sampling.engines.base import Completion


class Figures:
    """Means of what was measured since they were last taken.

    Attributes:
        trains_from: when the answers were ready, on the monotonic clock.
    """

    def __init__(self) -> None:
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self.trains_from: float | None = None

    def add(self, figures: Mapping[str, float]) -> None:
        """Note one step's; what is not known (NaN) counts in no mean."""
        for name, value in figures.items():
            if value == value:
                self._values[name].append(value)

    def take(self) -> dict[str, float]:
        """The means, and how long the last step trained."""
        found = {name: round(sum(values) / len(values), 6) for name, values in self._values.items()}
        self._values.clear()
        if self.trains_from is not None:
            found["seconds/train"] = round(time.monotonic() - self.trains_from, 3)
        return found


def describe(
    rewards: Rewards, scores: Tensor, answers: Sequence[Completion | None], sums: Tensor | None = None
) -> dict[str, float]:
    """Rewards and lengths of answers.

    Args:
        scores: (answers, functions), NaN where there is none.
        sums: (answers,) the combined rewards, if they are known already.
    """
    sums = combined(scores, rewards.weights) if sums is None else sums
    known = sums[~sums.isnan()]
    given = [answer for answer in answers if answer is not None]
    figures = {
        "reward": float(sums.nanmean()),
        "reward_std": float(known.std()) if len(known) > 1 else 0.0,
        "completions/mean_length": _mean([answer.completion_tokens for answer in given]),
        "completions/clipped_ratio": _mean([answer.finish_reason == "length" for answer in given]),
        "completions/unscored_ratio": float(sums.isnan().float().mean()),
    }
    means = scores.nanmean(dim=0).tolist()
    return figures | {f"rewards/{name}/mean": mean for name, mean in zip(rewards.names, means, strict=True)}


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float32).mean()) if values else float("nan")
