"""ORPO (arXiv:2403.07691, eq. 6 and 7), without a reference: likelihood plus an odds ratio.

p(y) = exp(mean token log-prob),  odds(y) = p / (1 - p)
loss = nll(y_w) - beta * log sigmoid(log odds(y_w) - log odds(y_l))

The likelihood is the answer's, as in the paper; TRL also learns the prompt's tokens. nll is the
mean over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require_positive
from autoalign.losses.preference._nll import answer_nll

NEEDS_REFERENCE = False
PER_TOKEN_REWARDS = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        beta: weight of the odds ratio, the paper's lambda.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    log_odds_ratio = _log_odds(logps.chosen_mean) - _log_odds(logps.rejected_mean)
    return answer_nll(logps) - options.beta * F.logsigmoid(log_odds_ratio)


def _log_odds(log_probability: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p <= 0; finite at p = 1, where float32 has log p = 0."""
    log_probability = log_probability.clamp(max=-torch.finfo(log_probability.dtype).eps)
    return log_probability - torch.log(-torch.expm1(log_probability))
