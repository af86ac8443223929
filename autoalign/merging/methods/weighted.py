"""A weighted mean of the models: linear interpolation, as in WiSE-FT (arXiv:2109.01903, eq. 1).

theta = sum_i w_i theta_i / sum_i w_i        (normalize false: the sum alone)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autoalign.errors import ConfigError
from autoalign.merging.methods._consensus import weighted_sum
from autoalign.merging.stack import Stack


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        normalize: divide by the sum of the weights.
    """

    normalize: bool = True


def merge(stack: Stack, options: Options) -> Tensor:
    """(n,) merged elements."""
    total = weighted_sum(stack.models, stack.weights)
    if not options.normalize:
        return total
    mass = sum(stack.weights)
    if mass == 0:
        raise ConfigError("method weighted: the weights add up to 0; change one, or give --normalize false")
    return total / mass
