"""EXO on pairs (arXiv:2402.00856, eq. 16): reverse KL to the labels' distribution (1 - eps, eps).

z = beta * (log p/p_ref(y_w) - log p/p_ref(y_l))
loss = sigmoid(z) (log sigmoid(z) - log(1 - eps)) + sigmoid(-z) (log sigmoid(-z) - log eps)
"""

from __future__ import annotations

import math
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
        label_smoothing: eps above, more than 0; the paper uses 0.001.
    """

    beta: float = 0.1
    label_smoothing: float = 1e-3

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        eps = self.label_smoothing
        require(
            0 < eps <= 0.5, "label_smoothing", eps, "above 0 and at most 0.5 for exo_pair (1e-3 in its paper)"
        )


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    z, eps = options.beta * logps.margin, options.label_smoothing
    log_chosen, log_rejected = F.logsigmoid(z), F.logsigmoid(-z)
    chosen_term = log_chosen.exp() * (log_chosen - math.log1p(-eps))
    return chosen_term + log_rejected.exp() * (log_rejected - math.log(eps))
