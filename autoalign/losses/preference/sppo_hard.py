"""SPPO with hard labels (arXiv:2405.00675, eq. 4.7 with P = 1 for the winner, 0 for the loser).

loss = (log p/p_ref(y_w) - 1 / (2 beta))^2 + (log p/p_ref(y_l) + 1 / (2 beta))^2
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive

NEEDS_REFERENCE = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: one over the paper's eta; the log-ratios aimed at are +-1 / (2 beta).
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    target = 0.5 / options.beta
    return (logps.chosen_ratio - target) ** 2 + (logps.rejected_ratio + target) ** 2
