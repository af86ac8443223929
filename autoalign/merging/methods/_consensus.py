"""Sums of task vectors, plain and by TIES's elected sign (arXiv:2306.01708, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i x_i, (n,)."""
    total = torch.zeros_like(tensors[0])
    for tensor, weight in zip(tensors, weights, strict=True):
        total.add_(tensor, alpha=weight)
    return total


def disjoint_mean(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean, element by element, of the deltas whose sign is that of their weighted sum.

    gamma = sgn(sum_i w_i d_i);  A = {i : sgn(d_i) = gamma};  mean = sum_A w_i d_i / sum_A w_i

    A zero agrees with no sign, so a trimmed element does not pull the mean down. Where the
    weighted sum is zero the mean is zero.
    """
    elected = torch.sign(weighted_sum(deltas, weights))
    total, mass = torch.zeros_like(elected), torch.zeros_like(elected)
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = (torch.sign(delta) == elected) & (elected != 0)
        total.add_(torch.where(agrees, delta, 0.0), alpha=weight)
        mass.add_(agrees, alpha=weight)
    return torch.where(mass > 0, total / mass.clamp_min(torch.finfo(mass.dtype).tiny), 0.0)
