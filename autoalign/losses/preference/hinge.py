"""Hinge loss on DPO's reward margin: RSO (arXiv:2309.06657), after SLiC-HF (arXiv:2305.10425).

loss = max(0, 1 - beta * (log p/p_ref(y_w) - log p/p_ref(y_l)))
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
        beta: one over the margin at which a pair stops to count.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    return F.relu(1 - options.beta * logps.margin)
