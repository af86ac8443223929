"""Cross-entropy of the language-model head, computed on supervised positions in chunks.

The head and its loss are half the cost of a small model's step (49,152 x 576 for
SmolLM2-135M), so they run on supervised positions alone, and no more than `chunk`
positions' logits exist at a time. The gradients of the head's inputs are computed
together with the loss, as in Liger Kernel (arXiv:2410.10989): the logits are never
needed again in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed negative log-likelihood, in float32.

    Args:
        logits: (positions, vocab).
        targets: (positions,) token ids.

    Returns:
        A scalar: sum over positions of -log softmax(logits)[target].
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def linear_cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = 1024) -> Tensor:
    """`cross_entropy_sum(hidden @ weight.T, targets)` without holding all the logits.

    Args:
        hidden: (positions, width) inputs of the head.
        weight: (vocab, width) of the head.
        targets: (positions,) token ids.
        chunk: positions whose logits are held at a time.

    Returns:
        A scalar float32 sum, differentiable in `hidden` and `weight`.
    """
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, chunk)  # type: ignore[no-untyped-call]
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight: Tensor | None = None
        many = hidden.shape[0] > chunk
        for start in range(0, hidden.shape[0], chunk):
            part, wanted = hidden[start : start + chunk], targets[start : start + chunk]
            loss, grad_logits = _chunk_loss_and_grad(part @ weight.T, wanted)
            total += loss
            if grad_hidden is not None:
                torch.mm(grad_logits, weight, out=grad_hidden[start : start + chunk])
            if needs_weight:
                # Chunks are summed in float32: bfloat16 would lose the small ones.
                step = grad_logits.T @ part
                step = step.float() if many else step
                grad_weight = step if grad_weight is None else grad_weight.add_(step)
        if needs_weight and grad_weight is None:
            # Ranks that reduce gradients in step need one each, of no tokens too.
            grad_weight = torch.zeros_like(weight)
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype) if grad_weight is not None else None)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        scale = grad_outputs[0]
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None if grad_weight is None else grad_weight * scale.to(grad_weight.dtype),
            None,
            None,
        )


def _chunk_loss_and_grad(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of one chunk and the gradient of its logits: softmax minus one-hot.

    `logits` (positions, vocab) in the model's type; the gradient comes back in the same type.
    """
    log_probs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    picked = log_probs.gather(1, targets[:, None])
    grad = log_probs.exp_()
    grad.scatter_add_(1, targets[:, None], torch.full_like(picked, -1.0))
    return -picked.sum(), grad.to(logits.dtype)
