"""Advantages of answers over their group (GRPO, arXiv:2402.03300, section 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Scale = Literal["group", "batch", "none"]
_EPSILON = 1e-4  # as in TRL


class Advantages(NamedTuple):
    """Of groups of answers.

    Attributes:
        values: (groups, answers) float32; 0 for an answer without a reward.
        is_flat: (groups,) bool, groups whose rewards do not differ: nothing is learned from them.
    """

    values: Tensor
    is_flat: Tensor


def advantages(rewards: Tensor, scale: Scale = "group") -> Advantages:
    """Each reward less its group's mean, over a standard deviation.

    Args:
        rewards: (groups, answers) float32; NaN where an answer could not be scored, which then counts
            neither in the mean nor in the deviation.
        scale: whose (sample) standard deviation: its group's, the whole batch's, or none at all
            (Dr. GRPO, arXiv:2503.20783: hard and easy prompts are then not weighed up).
    """
    spread = _deviation(rewards, dim=1)
    values = rewards - rewards.nanmean(dim=1, keepdim=True)
    if scale == "group":
        values = values / (spread + _EPSILON)
    elif scale == "batch":
        values = values / (_deviation(rewards.reshape(1, -1), dim=1) + _EPSILON)
    is_flat = torch.isclose(spread, torch.zeros_like(spread)).squeeze(1)
    return Advantages(values.nan_to_num(nan=0.0), is_flat)


def combined(rewards: Tensor, weights: Sequence[float]) -> Tensor:
    """(answers,) weighted sums of several rewards; one that is missing counts 0, NaN where all are.

    Args:
        rewards: (answers, functions) float32, NaN where a function could not score the answer.
    """
    summed = (rewards * rewards.new_tensor(weights)).nansum(dim=1)
    return summed.masked_fill(rewards.isnan().all(dim=1), torch.nan)


def _deviation(values: Tensor, dim: int) -> Tensor:
    """Sample standard deviation of what is no NaN, dimension kept; 0 where there are fewer than two."""
    known = (~values.isnan()).sum(dim, keepdim=True)
    squares = (values - values.nanmean(dim, keepdim=True)).square().nansum(dim, keepdim=True)
    return (squares / (known - 1).clamp(min=1)).sqrt()
