"""BCO on pairs (arXiv:2404.04656): a classifier of good and bad answers, whose logit is the reward.

r = beta * log p/p_ref(y)
loss = -log sigmoid(r_w - d) - log sigmoid(-(r_l - d))

The paper's shift d is the running mean of all rewards seen, this batch's included. It is off by
default, as in TRL, whose bco_pair has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive
from autoalign.losses.preference._running_mean import RunningMean, Stateful

NEEDS_REFERENCE = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: how hard the policy is held to the reference; smaller lets it go further.
        reward_shift: take d from the running mean; otherwise d is 0.
    """

    beta: float = 0.1
    reward_shift: bool = False

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)


def initial_state() -> RunningMean:
    """No rewards seen yet."""
    return RunningMean()


def loss(logps: PairLogps, options: Options, state: RunningMean) -> Stateful:
    """(batch,) losses, and `state` with this batch's rewards taken in."""
    chosen, rejected = options.beta * logps.chosen_ratio, options.beta * logps.rejected_ratio
    state = state.seeing(torch.stack([chosen, rejected]))
    shift = torch.as_tensor(state.mean if options.reward_shift else 0.0).to(chosen)
    return Stateful(-F.logsigmoid(chosen - shift) - F.logsigmoid(shift - rejected), state)
