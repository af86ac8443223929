"""Cross-entropy of the language-model head, computed on supervised positions in chunks.

The head and its loss are half the cost of a small model's step (49,152 x 576 for
SmolLM2-135M), so they run on supervised positions alone, and no more than a chunk of
positions' logits exist at a time. The gradients of the head's inputs are computed
together with the loss, as in Liger Kernel (arXiv:2410.10989): the logits are never
needed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autoalign.kernels import ops
from autoalign.losses.summing import added

LOGITS_BYTES = 192 << 20
"""Logits held at a time: wide matrix products, and less memory than the weights' gradient needs."""
_BLOCK = 32
"""Positions whose softmax is worked out at a time on a CPU: 6 MB of float32 at 49,152 tokens."""


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed negative log-likelihood, in float32.

    Args:
        logits: (positions, vocab).
        targets: (positions,) token ids.

    Returns:
        A scalar: sum over positions of -log softmax(logits)[target].
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def linear_cross_entropy_sum(
    hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int | None = None
) -> Tensor:
    """`cross_entropy_sum(hidden @ weight.T, targets)` without holding all the logits.

    Args:
        hidden: (positions, width) inputs of the head.
        weight: (vocab, width) of the head.
        targets: (positions,) token ids.
        chunk: positions whose logits are held at a time; None: as many as `LOGITS_BYTES` hold.

    Returns:
        A scalar float32 sum, differentiable in `hidden` and `weight`, once.
    """
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, chunk)  # type: ignore[no-untyped-call]
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int | None) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight: Tensor | None = None
        chunks = even_chunks(hidden.shape[0], chunk or positions_held(weight))
        for part in chunks:
            logits = hidden[part] @ weight.T
            total += _loss_and_grad(logits, targets[part])
            if grad_hidden is not None:
                torch.mm(logits, weight, out=grad_hidden[part])
            if needs_weight:
                grad_weight = added(grad_weight, logits.T @ hidden[part], is_only=len(chunks) == 1)
        if needs_weight and grad_weight is None:
            # Ranks that reduce gradients in step need one each, of no tokens too.
            grad_weight = torch.zeros_like(weight)
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype) if grad_weight is not None else None)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        scale = grad_outputs[0]
        grad_hidden, grad_weight = ctx.saved_tensors
        # In place: a copy of the head's gradient would be there when memory is at its highest.
        return (
            None if grad_hidden is None else grad_hidden.mul_(scale),
            None if grad_weight is None else grad_weight.mul_(scale),
            None,
            None,
        )


def positions_held(weight: Tensor) -> int:
    """How many positions' logits `LOGITS_BYTES` hold under a head of (vocab, width) `weight`."""
    return max(1, LOGITS_BYTES // (weight.shape[0] * weight.element_size()))


def even_chunks(positions: int, largest: int) -> list[slice]:
    """As few slices of like size as can be, none over `largest`."""
    count = max(1, -(-positions // largest))
    bounds = [positions * index // count for index in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]


def cached_blocks(logits: Tensor) -> Iterator[slice]:
    """Slices of positions that are small enough to stay in a CPU's cache; all at once on a GPU."""
    size = len(logits) if logits.is_cuda else _BLOCK
    return (slice(start, start + size) for start in range(0, len(logits), max(1, size)))


def _loss_and_grad(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed loss of (positions, vocab) logits, which become their gradient: softmax minus one-hot."""
    if ops.can(logits):
        return -ops.turn_to_gradient(logits, targets, torch.full(targets.shape, -1.0)).sum()
    total = logits.new_zeros((), dtype=torch.float32)
    for block in cached_blocks(logits):
        wanted = targets[block, None]
        log_probs = torch.log_softmax(logits[block], dim=-1, dtype=torch.float32)
        picked = log_probs.gather(1, wanted)
        total -= picked.sum()
        logits[block] = log_probs.exp_().scatter_add_(1, wanted, torch.full_like(picked, -1.0))
    return total
