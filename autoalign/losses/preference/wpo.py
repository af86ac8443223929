"""WPO (arXiv:2406.11827, eq. 4): DPO with each pair weighed by how likely the policy is to write it.

w(y) = exp(log p(y) / |y|), without a gradient
loss = -w(y_w) w(y_l) log sigmoid(beta * (log p/p_ref(y_w) - log p/p_ref(y_l)))

The weights are the length-normalised likelihoods of section 3.2 without its alignment (which divides
each token's by sum_v p(v)^2, so that answers drawn from the policy itself weigh about 1).
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
    weight = (logps.chosen_mean + logps.rejected_mean).detach().exp()
    return -weight * F.logsigmoid(options.beta * logps.margin)
