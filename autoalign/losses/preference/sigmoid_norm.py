"""DPO over mean token log-probs, as in Tulu 3 (arXiv:2411.15124).

z = beta * (log p/p_ref(y_w) / |y_w| - log p/p_ref(y_l) / |y_l|)
loss = -log sigmoid(z)
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
    return -F.logsigmoid(options.beta * logps.mean_margin)
