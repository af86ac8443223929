"""DARE (arXiv:2311.03099, eq. 1-3): task vectors thinned by chance and rescaled, then added to the base.

m_i ~ Bernoulli(density);  d_i = m_i (theta_i - theta_base) / density
theta = theta_base + scale * sum_i w_i d_i

The paper writes p for the share that is dropped: density = 1 - p.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.merging.methods._consensus import weighted_sum
from autoalign.merging.methods._drop import drop_and_rescale
from autoalign.merging.methods._options import require_density, require_finite
from autoalign.merging.stack import Stack

NEEDS_BASE = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        density: share of each task vector that is kept.
        scale: for the merged task vector.
        seed: decides which elements are kept.
    """

    density: float = 0.5
    scale: float = 1.0
    seed: int = 42

    def __post_init__(self) -> None:
        require_density(self.density)
        require_finite("scale", self.scale)


def merge(stack: Stack, options: Options) -> Tensor:
    """(n,) merged elements."""
    kept = drop_and_rescale(stack, options.density, options.seed)
    return stack.moved(options.scale * weighted_sum(kept, stack.weights))
