"""GRPO's objective (arXiv:2402.03300, equation 3) over answers that lie one behind the other.

    ratio_t = pi(o_t) / pi_old(o_t)
    loss_t  = -min(ratio_t A, clip(ratio_t, 1 - eps_low, 1 + eps_high) A) * w_t + beta KL_t
    KL_t    = r - log r - 1, r = pi_ref(o_t) / pi(o_t)       (k3: never negative, unbiased)

A is the answer's advantage; w_t corrects for an engine whose probabilities are not quite the trainer's.
With `importance_sampling_level` sequence the ratio is the answer's own, exp(mean_t log ratio_t)
(GSPO, arXiv:2507.18071). How tokens are weighed is what `loss_type` says; names as in TRL:

    grpo     each answer's mean over its tokens, then the mean over answers
    dapo     the mean over all tokens of the step (arXiv:2503.14476)
    bnpo     the mean over a micro-batch's tokens, then over micro-batches
    dr_grpo  the sum over all tokens / (answers * max_completion_length) (arXiv:2503.20783)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

LossType = Literal["grpo", "dapo", "bnpo", "dr_grpo"]


@dataclass(frozen=True)
class Options:
    """What may be set; `epsilon_high` None takes `epsilon`, `beta` 0 leaves the reference out."""

    loss_type: LossType = "dapo"
    epsilon: float = 0.2
    epsilon_high: float | None = None
    beta: float = 0.0
    importance_sampling_level: Literal["token", "sequence"] = "token"
    max_completion_length: int = 256


@dataclass(frozen=True)
class AnswerBatch:
    """The answers of a micro-batch, their tokens one behind the other.

    Args:
        logps: (tokens,) log-probs under the policy, float32.
        lengths: tokens of each answer; they add up to `tokens`.
        advantages: (answers,).
        old_logps: (tokens,) under the policy that the answers are held against; None: under this one.
        ref_logps: (tokens,) under the reference; needed where `beta` is not 0.
        weights: (tokens,) importance weights of an engine that is not quite the old policy; None: 1.
    """

    logps: Tensor
    lengths: Sequence[int]
    advantages: Tensor
    old_logps: Tensor | None = None
    ref_logps: Tensor | None = None
    weights: Tensor | None = None


class Outcome(NamedTuple):
    """What a micro-batch comes to; figures are means over its tokens.

    Attributes:
        loss: scalar, to be summed over the step's micro-batches and divided by `divisor`.
        kl: estimate of KL(policy || reference); None without a reference.
        clip_ratio: share of the tokens whose ratio is clipped, on the side where that counts.
    """

    loss: Tensor
    kl: Tensor | None
    clip_ratio: Tensor


def loss(batch: AnswerBatch, options: Options) -> Outcome:
    """The loss of a micro-batch with at least one token.

    Raises:
        ValueError: `beta` is set, and there are no `ref_logps`.
    """
    lengths = torch.tensor(batch.lengths, device=batch.logps.device)
    advantages = batch.advantages.repeat_interleave(lengths)
    old = batch.logps.detach() if batch.old_logps is None else batch.old_logps
    ratio = _ratio(batch.logps - old, lengths, options)
    low, high = 1 - options.epsilon, 1 + (options.epsilon_high or options.epsilon)
    losses = -torch.min(ratio * advantages, ratio.clamp(low, high) * advantages)
    if batch.weights is not None:
        losses = losses * batch.weights
    kl = None
    if options.beta:
        if batch.ref_logps is None:
            raise ValueError("beta is set, and the batch has no ref_logps")
        distance = batch.ref_logps - batch.logps
        kl = distance.exp() - distance - 1
        losses = losses + options.beta * kl
    clipped = ((ratio < low) & (advantages < 0)) | ((ratio > high) & (advantages > 0))
    mean_kl = None if kl is None else kl.detach().mean()
    return Outcome(_gathered(losses, lengths, options), mean_kl, clipped.float().mean())


def divisor(options: Options, answers: int, tokens: int, micro_batches: int) -> float:
    """What the micro-batches' summed losses are divided by.

    Args:
        answers, tokens: of the whole step, over all workers; answers that add nothing count too.
        micro_batches: that hold a token.
    """
    return float(
        {
            "grpo": answers,
            "dapo": tokens,
            "bnpo": micro_batches,
            "dr_grpo": answers * options.max_completion_length,
        }[options.loss_type]
    )


def importance_weights(trainer_logps: Tensor, engine_logps: Tensor, cap: float) -> Tensor:
    """min(pi_trainer / pi_engine, cap) of each token (truncated importance sampling), without a gradient.

    Args:
        trainer_logps: (tokens,) under the policy that trains, as it was when the engine sampled.
        engine_logps: (tokens,) as the engine reports them; NaN where it does not, which weighs 1.
    """
    distance = torch.nan_to_num(trainer_logps.detach() - engine_logps, nan=0.0)
    return distance.exp().clamp(max=cap)


def _ratio(log_ratio: Tensor, lengths: Tensor, options: Options) -> Tensor:
    """(tokens,) the ratio that each token's loss takes."""
    if options.importance_sampling_level == "token":
        return log_ratio.exp()
    return _sums(log_ratio, lengths).div(lengths.clamp(min=1)).exp().repeat_interleave(lengths)


def _gathered(losses: Tensor, lengths: Tensor, options: Options) -> Tensor:
    if options.loss_type == "grpo":
        return _sums(losses, lengths).div(lengths.clamp(min=1)).sum()
    return losses.mean() if options.loss_type == "bnpo" else losses.sum()


def _sums(values: Tensor, lengths: Tensor) -> Tensor:
    """(answers,) sums over each answer's tokens."""
    owners = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return values.new_zeros(len(lengths)).index_add(0, owners, values)
