"""Log-probabilities of answers: all that a preference loss sees of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairLogps:
    """A batch of preference pairs. Every tensor is (batch,); log-probs are natural and float32.

    Args:
        chosen: log-prob of the chosen answer under the policy, summed over its tokens.
        rejected: the same of the rejected answer.
        chosen_tokens: length of the chosen answer, in supervised tokens.
        rejected_tokens: length of the rejected answer.
        ref_chosen: log-prob of the chosen answer under the reference; None where no loss needs it.
        ref_rejected: the same of the rejected answer.
        chosen_unweighted: `chosen` as it is without LD-DPO's weights; None where there are none.
        chosen_collisions: log sum_v p(v)^2 under the policy, summed over the chosen answer's tokens, without
            a gradient; None where no loss needs it.
        rejected_collisions: the same of the rejected answer.
        mean_chosen_tokens: scalar, the mean of `chosen_tokens` over the optimizer step's pairs on
            all workers; None takes this batch's. With it, a loss averaged over tokens stays the
            same however a step is cut into micro-batches.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    chosen_unweighted: Tensor | None = None
    mean_chosen_tokens: Tensor | None = None
    chosen_collisions: Tensor | None = None
    rejected_collisions: Tensor | None = None

    @property
    def chosen_ratio(self) -> Tensor:
        """log(policy / reference) of the chosen answers, (batch,)."""
        return self.chosen - _present(self.ref_chosen)

    @property
    def rejected_ratio(self) -> Tensor:
        """log(policy / reference) of the rejected answers, (batch,)."""
        return self.rejected - _present(self.ref_rejected)

    @property
    def margin(self) -> Tensor:
        """`chosen_ratio - rejected_ratio`: DPO's reward margin before beta, (batch,)."""
        return self.chosen_ratio - self.rejected_ratio

    @property
    def ref_margin(self) -> Tensor:
        """log(reference(chosen) / reference(rejected)), (batch,)."""
        return _present(self.ref_chosen) - _present(self.ref_rejected)

    @property
    def chosen_mean(self) -> Tensor:
        """Mean log-prob of a chosen answer's token under the policy, (batch,)."""
        return self.chosen / self.chosen_tokens.clamp(min=1)

    @property
    def rejected_mean(self) -> Tensor:
        """Mean log-prob of a rejected answer's token under the policy, (batch,)."""
        return self.rejected / self.rejected_tokens.clamp(min=1)

    @property
    def mean_margin(self) -> Tensor:
        """`margin` with each ratio divided by its answer's length, (batch,)."""
        chosen = self.chosen_ratio / self.chosen_tokens.clamp(min=1)
        return chosen - self.rejected_ratio / self.rejected_tokens.clamp(min=1)


@dataclass(frozen=True)
class KTOBatch:
    """A batch of single answers, each good or bad.

    Args:
        logps: (batch,) summed log-prob of each answer under the policy.
        ref_logps: (batch,) the same under the reference.
        desirable: (batch,) bool, true where the answer is good.
        kl: scalar estimate of the KL divergence from the reference: the mean, over all workers,
            of `policy - reference` on answers that belong to other prompts.
    """

    logps: Tensor
    ref_logps: Tensor
    desirable: Tensor
    kl: Tensor

    @property
    def ratio(self) -> Tensor:
        """log(policy / reference) of the answers, (batch,)."""
        return self.logps - self.ref_logps


def sum_answers(
    token_logps: Tensor,
    lengths: Sequence[int],
    *,
    shared_lengths: Sequence[int] | None = None,
    ld_alpha: float = 1.0,
) -> Tensor:
    """Sum tokens' log-probs answer by answer, the part past `shared_lengths` weighed by `ld_alpha`.

    LD-DPO (arXiv:2409.06411) takes an answer's verbosity out of its reward: of a pair's longer
    answer, the tokens past the shorter one's length count for `ld_alpha` (0: not at all; 1: DPO):
        log p(y) = sum_{t <= l} log p(y_t) + ld_alpha * sum_{t > l} log p(y_t),  l = min(|y_w|, |y_l|)

    Args:
        token_logps: (tokens,) log-probs of the answers' tokens, one answer after the other.
        lengths: tokens of each answer; they add up to `tokens`.
        shared_lengths: of each answer, the shorter length of its pair; None weighs every token 1.
        ld_alpha: weight of the tokens past the shared length, 0 to 1.

    Returns:
        (answers,) sums. Each answer is summed by itself, so its neighbours never change its bits.
    """
    answers = torch.split(token_logps, list(lengths))
    if shared_lengths is None or ld_alpha == 1.0:
        return torch.stack([answer.sum() for answer in answers])
    return torch.stack(
        [
            answer[:shared].sum() + ld_alpha * answer[shared:].sum()
            for answer, shared in zip(answers, shared_lengths, strict=True)
        ]
    )


def _present(reference: Tensor | None) -> Tensor:
    if reference is None:
        raise ValueError(
            "this loss compares with a reference model: PairLogps has no ref_chosen, ref_rejected"
        )
    return reference
