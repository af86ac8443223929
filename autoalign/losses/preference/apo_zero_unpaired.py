"""APO-zero (arXiv:2408.06266, eq. 7) for single answers marked good or bad: KTO without its KL.

r = beta * log p/p_ref(y)
loss = w_good (1 - sigmoid(r)) for a good answer, w_bad sigmoid(r) for a bad one
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoalign.losses.logps import KTOBatch
from autoalign.losses.option_checks import require_positive

NEEDS_REFERENCE = True
UNPAIRED = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: how hard the policy is held to the reference; smaller lets it go further.
        desirable_weight: weight of the good answers' losses.
        undesirable_weight: weight of the bad answers' losses.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        require_positive("desirable_weight", self.desirable_weight)
        require_positive("undesirable_weight", self.undesirable_weight)


def loss(batch: KTOBatch, options: Options) -> Tensor:
    """(batch,) losses."""
    reward = options.beta * batch.ratio
    good = options.desirable_weight * torch.sigmoid(-reward)
    return torch.where(batch.desirable, good, options.undesirable_weight * torch.sigmoid(reward))
