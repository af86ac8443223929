"""Negative log-likelihood of the chosen answers."""

from __future__ import annotations

from torch import Tensor

from autoalign.losses.logps import PairLogps


def answer_nll(logps: PairLogps) -> Tensor:
    """-log p(y_w) / (mean length of chosen answers), (batch,): its mean is the mean over tokens.

    LD-DPO's weights stay out of it: all of the answer is learned.
    """
    summed = logps.chosen if logps.chosen_unweighted is None else logps.chosen_unweighted
    length = logps.mean_chosen_tokens
    if length is None:
        length = logps.chosen_tokens.to(summed.dtype).mean()
    return -summed / length.clamp(min=1)
