"""Likelihood of the chosen answer alone: the term that `rpo_alpha` adds (arXiv:2404.19733).

loss = -log p(y_w) / |y_w|

`average` says what is divided by: the mean length over the step's pairs ("tokens", every token
weighs the same, as in TRL), or each answer's own ("rows", every answer weighs the same, as in the
paper).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from autoalign.losses.logps import PairLogps
from autoalign.losses.option_checks import require
from autoalign.losses.preference._nll import answer_nll

NEEDS_REFERENCE = False


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        nll_average: over "tokens" or over "rows".
    """

    nll_average: Literal["tokens", "rows"] = "tokens"

    def __post_init__(self) -> None:
        require(self.nll_average in ("tokens", "rows"), "nll_average", self.nll_average, "'tokens' or 'rows'")


def loss(logps: PairLogps, options: Options) -> Tensor:
    """(batch,) losses."""
    if options.nll_average == "tokens":
        return answer_nll(logps)
    summed = logps.chosen if logps.chosen_unweighted is None else logps.chosen_unweighted
    return -summed / logps.chosen_tokens.clamp(min=1)
