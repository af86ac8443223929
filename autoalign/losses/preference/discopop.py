"""DiscoPOP's log-ratio modulated loss (arXiv:2406.08414, eq. 5), found by a language model.

z = beta * (log p/p_ref(y_w) - log p/p_ref(y_l)),  m = sigmoid(z / tau)
loss = -(1 - m) log sigmoid(z) + m exp(-z)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive

NEEDS_REFERENCE = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: how hard the policy is held to the reference; smaller lets it go further.
        discopop_tau: how sharply the two parts are switched between at z = 0.
    """

    beta: float = 0.1
    discopop_tau: float = 0.05

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        require_positive("discopop_tau", self.discopop_tau)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    z = options.beta * logps.margin
    exponential = torch.sigmoid(z / options.discopop_tau)
    return -(1 - exponential) * F.logsigmoid(z) + exponential * torch.exp(-z)
