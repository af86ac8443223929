"""SimPO (arXiv:2405.14734, eq. 6), without a reference: mean token log-probs and a target margin.

z = beta * (log p(y_w) / |y_w| - log p(y_l) / |y_l|) - gamma
loss = -(1 - eps) log sigmoid(z) - eps log sigmoid(-z)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require, require_positive, require_smoothing
from autoalign.losses.preference._smoothed import smoothed_logistic

NEEDS_REFERENCE = False
PER_TOKEN_REWARDS = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: scale of the rewards; the paper uses 2 to 10, far above DPO's.
        simpo_gamma: margin that is aimed at; the paper tunes gamma / beta, 0.5 here.
        label_smoothing: share of labels taken to be flipped, 0 to 0.5.
    """

    beta: float = 2.0
    simpo_gamma: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        require(self.simpo_gamma >= 0, "simpo_gamma", self.simpo_gamma, "0 or more")
        require_smoothing(self.label_smoothing)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    z = options.beta * (logps.chosen_mean - logps.rejected_mean) - options.simpo_gamma
    return smoothed_logistic(z, options.label_smoothing)
