"""Task arithmetic (arXiv:2212.04089, section 2): task vectors added to the base.

theta = theta_base + scale * sum_i w_i (theta_i - theta_base)

A negative weight takes a task away.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.merging.methods._consensus import weighted_sum
from autoalign.merging.methods._options import require_finite
from autoalign.merging.stack import Stack

NEEDS_BASE = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        scale: the paper's lambda, for the sum of all task vectors.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)


def merge(stack: Stack, options: Options) -> Tensor:
    """(n,) merged elements."""
    return stack.moved(options.scale * weighted_sum(stack.deltas, stack.weights))
