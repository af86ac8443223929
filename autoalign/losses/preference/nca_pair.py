"""NCA on pairs (arXiv:2402.05369): the chosen answer's likelihood may not fall.

r = beta * log p/p_ref(y)
loss = -log sigmoid(r_w) - (log sigmoid(-r_w) + log sigmoid(-r_l)) / 2
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    chosen, rejected = options.beta * logps.chosen_ratio, options.beta * logps.rejected_ratio
    return -F.logsigmoid(chosen) - 0.5 * (F.logsigmoid(-chosen) + F.logsigmoid(-rejected))
