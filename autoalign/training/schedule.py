"""Learning rates and optimizer groups."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from autoalign.config.train import TrainConfig


def warmup_steps(config: TrainConfig, total_steps: int) -> int:
    """Steps of linear warm-up: `warmup_steps`, or `warmup_ratio` of the total rounded up."""
    return config.warmup_steps or math.ceil(config.warmup_ratio * total_steps)


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """The rate of 0-based `step`: linear warm-up to the peak, then the named decay to 0.

    The formulas are those of transformers' `get_*_schedule_with_warmup`.
    """
    warm = warmup_steps(config, total_steps)
    if step < warm:
        return config.learning_rate * step / max(1, warm)
    progress = (step - warm) / max(1, total_steps - warm)
    decay = {
        "constant": 1.0,
        "linear": max(0.0, 1.0 - progress),
        "cosine": max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress))),
    }[config.lr_scheduler_type]
    return config.learning_rate * decay


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for AdamW: matrices decay, norms and biases (one dimension) don't."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [p for p in trainable if _dimensions(p) > 1]
    vectors = [p for p in trainable if _dimensions(p) <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _dimensions(parameter: nn.Parameter) -> int:
    # ZeRO-3 leaves an empty stub behind and keeps the real shape in ds_shape.
    return len(getattr(parameter, "ds_shape", parameter.shape))
