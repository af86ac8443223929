"""Log-probabilities of given tokens under the language-model head, without holding all the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], in float32.

    Args:
        logits: (positions, vocab).
        targets: (positions,) token ids.

    Returns:
        (positions,) log-probs.
    """
    return torch.log_softmax(logits.float(), dim=-1).gather(1, targets[:, None]).squeeze(1)


def linear_token_logps(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = 1024) -> Tensor:
    """`token_logps(hidden @ weight.T, targets)`, `chunk` positions at a time, forward and backward.

    A preference loss weighs each answer's gradient by what all of them came to, so that, other
    than for cross-entropy, gradients can't be made on the way forward: logits are made twice.

    Args:
        hidden: (positions, width) inputs of the head.
        weight: (vocab, width) of the head.
        targets: (positions,) token ids.

    Returns:
        (positions,) float32 log-probs, differentiable in `hidden` and `weight`.
    """
    logps: Tensor = _LinearTokenLogps.apply(hidden, weight, targets, chunk)  # type: ignore[no-untyped-call]
    return logps


class _LinearTokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        logps = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        for part in _chunks(hidden.shape[0], chunk):
            logps[part] = token_logps(hidden[part] @ weight.T, targets[part])
        ctx.save_for_backward(hidden, weight, targets)
        ctx.chunk = chunk
        return logps

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, targets = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        for part in _chunks(hidden.shape[0], ctx.chunk):
            grad_logits = _grad_logits(hidden[part] @ weight.T, targets[part], grad_outputs[0][part])
            if grad_hidden is not None:
                grad_hidden[part] = grad_logits @ weight
            if grad_weight is not None:
                grad_weight += grad_logits.T @ hidden[part]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None


def _chunks(positions: int, chunk: int) -> list[slice]:
    return [slice(start, start + chunk) for start in range(0, positions, chunk)]


def _grad_logits(logits: Tensor, targets: Tensor, grad: Tensor) -> Tensor:
    """d(sum of grad * logp) / d logits: grad * (one-hot - softmax), in the logits' type."""
    gradient = torch.softmax(logits.float(), dim=-1).mul_(-grad[:, None])
    gradient.scatter_add_(1, targets[:, None], grad[:, None])
    return gradient.to(logits.dtype)
