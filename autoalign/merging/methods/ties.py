"""TIES-Merging (arXiv:2306.01708, algorithm 1): trim, elect signs, merge what agrees.

tau_i = theta_i - theta_base, all but its `density` largest magnitudes set to zero
gamma = sgn(sum_i w_i tau_i)
tau   = sum_A w_i tau_i / sum_A w_i,  A = {i : sgn(tau_i) = gamma}, element by element
theta = theta_base + scale * tau

Trimming looks at one tensor at a time; the paper's looks at all tensors at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoalign.merging.methods._consensus import disjoint_mean
from autoalign.merging.methods._magnitude import kth_largest, magnitude
from autoalign.merging.methods._options import require_density, require_finite
from autoalign.merging.stack import Stack, Stretches

NEEDS_BASE = True
POSITIVE_WEIGHTS = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        density: share of each task vector that is kept, the paper's k / 100.
        scale: the paper's lambda.
    """

    density: float = 0.2
    scale: float = 1.0

    def __post_init__(self) -> None:
        require_density(self.density)
        require_finite("scale", self.scale)


def measure(stretches: Stretches, options: Options) -> list[float]:
    """For each model the smallest magnitude that is kept."""
    size = next(iter(stretches())).size
    kept = max(1, round(options.density * size))
    return kth_largest(lambda: (stack.deltas for stack in stretches()), kept)


def merge(stack: Stack, options: Options, smallest: list[float]) -> Tensor:
    """(n,) merged elements."""
    trimmed = [
        torch.where(magnitude(delta) >= least, delta, 0.0)
        for delta, least in zip(stack.deltas, smallest, strict=True)
    ]
    return stack.moved(options.scale * disjoint_mean(trimmed, stack.weights))
