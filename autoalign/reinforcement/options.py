"""The loss's options, from a job's config."""

from __future__ import annotations

from autoalign.config.grpo import GRPOConfig
from autoalign.losses import grpo


def options_of(config: GRPOConfig) -> grpo.Options:
    """What the loss may know."""
    return grpo.Options(
        config.loss_type,
        config.epsilon,
        config.epsilon_high,
        config.beta,
        config.importance_sampling_level,
        config.max_completion_length,
    )
