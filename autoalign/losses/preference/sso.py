"""SSO's weighted loss (arXiv:2410.17131v1): DPO where a pair counts more the less likely its answers are.

W    = sigmoid(-(alpha log p(y_w) / |y_w| + (1 - alpha) log p(y_l) / |y_l|))
loss = -W log sigmoid(beta * (log p/p_ref(y_w) - log p/p_ref(y_l)))

W lies between 1/2 (answers that are certain) and 1. It has a gradient, as in the authors' code
(icip-cas/SSO), which draws both answers towards what the policy is likely to say. There W is of the two
answers to the prompt without a principle, and weighs the losses of two more pairs, those under the
principles; here a row is one pair, and W is its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
        sso_alpha: the chosen answer's part in W, 0 to 1; the authors' script has 0.66.
    """

    beta: float = 0.1
    sso_alpha: float = 0.66

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        require(0 <= self.sso_alpha <= 1, "sso_alpha", self.sso_alpha, "0 to 1")


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    alpha = options.sso_alpha
    weight = torch.sigmoid(-(alpha * logps.chosen_mean + (1 - alpha) * logps.rejected_mean))
    return -weight * F.logsigmoid(options.beta * logps.margin)
