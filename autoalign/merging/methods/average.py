"""The plain mean of the models: model soups (arXiv:2203.05482).

theta = (theta_1 + ... + theta_n) / n
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.merging.methods._consensus import weighted_sum
from autoalign.merging.stack import Stack

TAKES_WEIGHTS = False


@dataclass(frozen=True)
class Options:
    """There is nothing to set."""


def merge(stack: Stack, options: Options) -> Tensor:
    """(n,) merged elements."""
    return weighted_sum(stack.models, [1.0] * len(stack.models)) / len(stack.models)
