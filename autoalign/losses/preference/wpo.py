"""WPO (arXiv:2406.11827, eq. 2 and 4): DPO with each pair weighed by how likely the policy is to write it.

w(y) = exp(mean over the tokens of (log p(y_t) - log sum_v p(v)^2)), without a gradient
loss = -w(y_w) w(y_l) log sigmoid(beta * (log p/p_ref(y_w) - log p/p_ref(y_l)))

What is subtracted is the "sampled alignment" of section 3.2: answers drawn from the policy itself then
weigh about 1, however sure it is. The authors' code also cuts the product at 1; the paper does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive

NEEDS_REFERENCE = True
NEEDS_COLLISIONS = True


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
    losses = F.logsigmoid(options.beta * logps.margin)
    if logps.chosen_collisions is None or logps.rejected_collisions is None:
        raise ValueError("wpo: PairLogps has no chosen_collisions, rejected_collisions")
    chosen = logps.chosen_mean - logps.chosen_collisions / logps.chosen_tokens.clamp(min=1)
    rejected = logps.rejected_mean - logps.rejected_collisions / logps.rejected_tokens.clamp(min=1)
    return -(chosen + rejected).detach().exp() * losses
