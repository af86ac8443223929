"""CPO (arXiv:2401.08417, eq. 3), without a reference: DPO with a uniform one, plus likelihood.

z = beta * (log p(y_w) - log p(y_l))
loss = -(1 - eps) log sigmoid(z) - eps log sigmoid(-z) + alpha * nll(y_w)

nll is the mean over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require, require_positive, require_smoothing
from autoalign.losses.preference._nll import answer_nll
from autoalign.losses.preference._smoothed import smoothed_logistic

NEEDS_REFERENCE = False


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: scale of the rewards.
        label_smoothing: share of labels taken to be flipped, 0 to 0.5.
        cpo_alpha: weight of the likelihood.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    cpo_alpha: float = 1.0

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        require_smoothing(self.label_smoothing)
        require(self.cpo_alpha >= 0, "cpo_alpha", self.cpo_alpha, "0 or more")


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    z = options.beta * (logps.chosen - logps.rejected)
    return smoothed_logistic(z, options.label_smoothing) + options.cpo_alpha * answer_nll(logps)
