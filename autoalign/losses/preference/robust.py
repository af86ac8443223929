"""Robust DPO (arXiv:2403.00409): unbiased when a share eps of the labels is flipped.

z = beta * (log p/p_ref(y_w) - log p/p_ref(y_l))
loss = (-(1 - eps) log sigmoid(z) + eps log sigmoid(-z)) / (1 - 2 eps)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require, require_positive

NEEDS_REFERENCE = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: how hard the policy is held to the reference; smaller lets it go further.
        label_smoothing: share of flipped labels, below 0.5; the paper uses 0.1.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        eps = self.label_smoothing
        require(0 <= eps < 0.5, "label_smoothing", eps, "0 up to, but not, 0.5 for robust")


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    z, eps = options.beta * logps.margin, options.label_smoothing
    return (-(1 - eps) * F.logsigmoid(z) + eps * F.logsigmoid(-z)) / (1 - 2 * eps)
