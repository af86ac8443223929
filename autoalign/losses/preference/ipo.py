"""IPO (arXiv:2310.12036, eq. 17), over mean token log-probs.

h = log p/p_ref(y_w) / |y_w| - log p/p_ref(y_l) / |y_l|
loss = (h - 1 / (2 beta))^2

The paper writes the sum over tokens; its authors divide by the answer's length (as TRL does, after
asking them), without which the target 1 / (2 beta) would mean something else for every length.
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
        beta: the paper's tau; the margin that is aimed at is 1 / (2 beta).
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    return (logps.mean_margin - 1 / (2 * options.beta)) ** 2
