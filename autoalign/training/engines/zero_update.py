"""A word before DeepSpeed's update: its optimizers drop a step whose gradient norm is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def ask_before_updates(optimizer: Any, stage: int, accepted: Callable[[float], bool]) -> None:
    """Call `accepted` with each step's gradient norm; where it says no, the step is dropped.

    The norm is taken inside `step`, before the first parameter changes, and is the same on all
    ranks. DeepSpeed then clears the gradients and its buffers by itself, as after an overflow.

    Args:
        optimizer: DeepSpeed's, of stages 1 to 3; stage 0 has its whole gradient at hand, and is
            left alone.
    """

    def judged(norm: Tensor) -> Tensor:
        return norm if accepted(float(norm)) else torch.full_like(norm, torch.inf)

    if stage in (1, 2):
        norm_of = optimizer.scaled_global_norm
        optimizer.scaled_global_norm = lambda: judged(norm_of())
        optimizer.compute_grad_norm = True
        # In bf16 it would take the step all the same. The norm tells of an overflow, too, and
        # spares a pass over the gradients.
        optimizer.check_grad_overflow = True
        optimizer.check_overflow = lambda **_: None
    elif stage == 3:
        from deepspeed.runtime.utils import combine_grad_norm_groups

        norms_of = optimizer._get_norm_groups
        optimizer._get_norm_groups = lambda: [judged(combine_grad_norm_groups(norms_of()))]
