"""The loss of a reward model.

Bradley-Terry likelihood of the preferences, as in InstructGPT (arXiv:2203.02155), with Llama 2's
margin (arXiv:2307.09288, eq. 2) and the centring of Eisenstein et al. (arXiv:2312.09244), which
takes away the freedom to add a constant to all rewards:

loss = -log sigmoid(r_w - r_l - m) + c * (r_w + r_l)^2
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from autoalign.losses.option_checks import require


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        center_rewards_coefficient: c above; 0 leaves the rewards where they are, 0.01 is usual.
    """

    center_rewards_coefficient: float = 0.0

    def __post_init__(self) -> None:
        value = self.center_rewards_coefficient
        require(value >= 0, "center_rewards_coefficient", value, "0 or more")


def loss(chosen: Tensor, rejected: Tensor, options: Options, margin: Tensor | None = None) -> Tensor:
    """The loss of each pair.

    Args:
        chosen: (batch,) rewards of the chosen answers.
        rejected: (batch,) rewards of the rejected answers.
        options: weight of the centring.
        margin: (batch,) by how much the chosen answer is known to be better; None for zero.

    Returns:
        (batch,) losses.
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    losses = -F.logsigmoid(difference)
    if options.center_rewards_coefficient:
        losses = losses + options.center_rewards_coefficient * (chosen + rejected) ** 2
    return losses
