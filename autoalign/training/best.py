"""Which checkpoint is the best, by a figure of its evaluation; keys and their meaning as in transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, nearest


class Best(NamedTuple):
    """The best evaluation so far of a step that is saved."""

    step: int
    value: float


def metric_name(config: TrainConfig) -> str | None:
    """`eval_NAME`; None when no best checkpoint is looked for."""
    name = config.metric_for_best_model or ("loss" if config.load_best_model_at_end else None)
    return name if name is None or name.startswith("eval_") else f"eval_{name}"


def better_of(config: TrainConfig, best: Best | None, step: int, figures: Mapping[str, float]) -> Best | None:
    """The better of `best` and this step's evaluation; the earlier one of equals.

    Raises:
        ConfigError: the evaluation has no such figure.
    """
    name = metric_name(config)
    if name is None:
        return best
    if name not in figures:
        raise ConfigError(
            f"'metric_for_best_model': the evaluation has no figure '{name}'{nearest(name, figures)}; "
            f"it has {', '.join(figures)}"
        )
    value = figures[name]
    is_greater_better = config.greater_is_better
    if is_greater_better is None:
        is_greater_better = not name.endswith("loss")
    if math.isnan(value):
        return best
    if best is None or (value > best.value if is_greater_better else value < best.value):
        return Best(step, value)
    return best
