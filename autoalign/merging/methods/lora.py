"""LoRA adapters (arXiv:2106.09685, section 4.1) written into their base model.

theta = theta_base + sum_i w_i s_i B_i A_i,  s_i = alpha_i / rank_i
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.merging.methods._consensus import weighted_sum
from autoalign.merging.stack import Stack

NEEDS_BASE = True
ADAPTERS = True


@dataclass(frozen=True)
class Options:
    """There is nothing to set."""


def merge(stack: Stack, options: Options) -> Tensor:
    """(n,) merged elements. `stack.models` hold the adapters' sums with the base already."""
    assert stack.base is not None
    return weighted_sum([stack.base, *stack.models], [1 - sum(stack.weights), *stack.weights])
