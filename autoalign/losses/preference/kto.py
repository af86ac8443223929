"""KTO (arXiv:2402.01306, eq. 7), for single answers marked good or bad.

r = log p/p_ref(y),  z0 = max(0, KL(p || p_ref)), which no gradient passes
loss = w_good (1 - sigmoid(beta (r - z0))) for a good answer
       w_bad  (1 - sigmoid(beta (z0 - r))) for a bad one

The paper wants w_good * (good answers) / (w_bad * (bad answers)) between 1 and 4/3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoalign.losses.logps import KTOBatch
from autoalign.losses.option_checks import require_positive

NEEDS_REFERENCE = True
UNPAIRED = True
NEEDS_KL = True


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
    z = options.beta * (batch.ratio - batch.kl.detach().clamp(min=0))
    good = options.desirable_weight * torch.sigmoid(-z)
    return torch.where(batch.desirable, good, options.undesirable_weight * torch.sigmoid(z))
