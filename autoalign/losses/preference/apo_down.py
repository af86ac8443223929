"""APO-down (arXiv:2408.06266, eq. 8), for chosen answers worse than what the model says now.

r = beta * log p/p_ref(y)
loss = sigmoid(r_w) + 1 - sigmoid(r_w - r_l)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive

NEEDS_REFERENCE = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: how hard the policy is held to the reference; smaller lets it go further.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    chosen, rejected = options.beta * logps.chosen_ratio, options.beta * logps.rejected_ratio
    return torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)
