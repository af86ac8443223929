"""The rewards that a preference-trained policy implies, and what is logged of them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from autoalign.losses.logps import KTOBatch, PairLogps


class Rewards(NamedTuple):
    """Detached rewards of the chosen and of the rejected answers."""

    chosen: Tensor
    rejected: Tensor


def pair_rewards(
    logps: PairLogps, beta: float, *, reference: bool = True, per_token: bool = False
) -> Rewards:
    """beta * log(policy / reference) of each answer (DPO, arXiv:2305.18290, eq. 5), (batch,) each.

    Args:
        logps: the pairs.
        beta: the loss's own.
        reference: false for a reference-free loss, whose reward is beta * log(policy).
        per_token: divide by the answer's length, as SimPO and ORPO do.
    """
    chosen = logps.chosen_ratio if reference else logps.chosen
    rejected = logps.rejected_ratio if reference else logps.rejected
    if per_token:
        chosen = chosen / logps.chosen_tokens.clamp(min=1)
        rejected = rejected / logps.rejected_tokens.clamp(min=1)
    return Rewards(beta * chosen.detach(), beta * rejected.detach())


def single_rewards(batch: KTOBatch, beta: float) -> Rewards:
    """beta * log(policy / reference), parted into good and bad answers; either may be empty."""
    rewards = beta * batch.ratio.detach()
    return Rewards(rewards[batch.desirable], rewards[~batch.desirable])


def reward_metrics(rewards: Rewards) -> dict[str, Tensor]:
    """Scalar means by the names that metrics.jsonl has them under.

    `rewards/accuracies` is the share of pairs whose chosen reward is the larger; answers that are
    not in pairs (their counts differ, or KTO's) have none: see `single_reward_metrics`.
    """
    return {
        "rewards/chosen": rewards.chosen.mean(),
        "rewards/rejected": rewards.rejected.mean(),
        "rewards/margins": (rewards.chosen - rewards.rejected).mean(),
        "rewards/accuracies": (rewards.chosen > rewards.rejected).float().mean(),
    }


def single_reward_metrics(rewards: Rewards) -> dict[str, Tensor]:
    """`reward_metrics` of answers without a partner; what an empty side would give is left out."""
    sides = {"rewards/chosen": rewards.chosen, "rewards/rejected": rewards.rejected}
    metrics = {name: side.mean() for name, side in sides.items() if len(side)}
    if len(metrics) == len(sides):
        metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    return metrics
