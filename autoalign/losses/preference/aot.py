"""AOT on pairs (arXiv:2406.05882): the policy's margins dominate the reference's as distributions.

u = sort_i(log p(y_w) - log p(y_l)),  v = sort_i(log p_ref(y_w) - log p_ref(y_l)) over the batch
loss_i = -(1 - eps) log sigmoid(beta (u_i - v_i)) - eps log sigmoid(-beta (u_i - v_i))

A batch of one is DPO: the larger the batch, the better the sorted values stand for distributions.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive, require_smoothing
from autoalign.losses.preference._smoothed import smoothed_logistic

NEEDS_REFERENCE = True
COUPLES_ROWS = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: how hard the policy is held to the reference; smaller lets it go further.
        label_smoothing: share of labels taken to be flipped, 0 to 0.5.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        require_smoothing(self.label_smoothing)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses by rank, not by pair."""
    policy = (logps.chosen - logps.rejected).sort().values
    return smoothed_logistic(
        options.beta * (policy - logps.ref_margin.sort().values), options.label_smoothing
    )
