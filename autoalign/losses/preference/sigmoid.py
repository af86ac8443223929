"""DPO (arXiv:2305.18290, eq. 7), with the label smoothing of cDPO (https://ericmitchell.ai/cdpo.pdf).

z = beta * (log p/p_ref(y_w) - log p/p_ref(y_l))
loss = -(1 - eps) log sigmoid(z) - eps log sigmoid(-z)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive, require_smoothing
from autoalign.losses.preference._smoothed import smoothed_logistic

NEEDS_REFERENCE = True


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
    """(batch,) losses."""
    return smoothed_logistic(options.beta * logps.margin, options.label_smoothing)
