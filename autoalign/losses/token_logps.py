"""Log-probabilities of given tokens under the language-model head, without holding all the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoalign.kernels import ops
from autoalign.losses.cross_entropy import cached_blocks, even_chunks, positions_held
from autoalign.losses.summing import added


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], in float32.

    Args:
        logits: (positions, vocab).
        targets: (positions,) token ids.

    Returns:
        (positions,) log-probs.
    """
    return torch.log_softmax(logits.float(), dim=-1).gather(1, targets[:, None]).squeeze(1)


def linear_token_logps(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int | None = None) -> Tensor:
    """`token_logps(hidden @ weight.T, targets)`, a chunk of positions at a time, forward and backward.

    A preference loss weighs each answer's gradient by what all of them came to, so that, other
    than for cross-entropy, gradients can't be made on the way forward. Logits that fit one chunk
    are kept for the way back; of more, each chunk's are made again.

    Args:
        hidden: (positions, width) inputs of the head.
        weight: (vocab, width) of the head.
        targets: (positions,) token ids.
        chunk: positions whose logits are held at a time; None: as many as `LOGITS_BYTES` hold.

    Returns:
        (positions,) float32 log-probs, differentiable in `hidden` and `weight`, once.
    """
    held = chunk or positions_held(weight)
    logps: Tensor = _LinearTokenLogps.apply(hidden, weight, targets, held)  # type: ignore[no-untyped-call]
    return logps


def log_collisions(logits: Tensor) -> Tensor:
    """log sum_v p(v)^2 of each position: how likely two draws are to be the same token; in float32.

    Args:
        logits: (positions, vocab).

    Returns:
        (positions,) natural logarithms.
    """
    return torch.logsumexp(2 * torch.log_softmax(logits.float(), dim=-1), dim=-1)


@torch.no_grad()
def linear_log_collisions(hidden: Tensor, weight: Tensor, chunk: int | None = None) -> Tensor:
    """`log_collisions(hidden @ weight.T)`, a chunk of positions at a time, without a gradient."""
    found = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
    for part in even_chunks(hidden.shape[0], chunk or positions_held(weight)):
        logits = hidden[part] @ weight.T
        for block in cached_blocks(logits):
            found[part][block] = log_collisions(logits[block])
    return found


class _LinearTokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        logps = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        ctx.chunks = even_chunks(hidden.shape[0], chunk)
        logits = None
        for part in ctx.chunks:
            logits = hidden[part] @ weight.T
            if ops.can(logits):
                logps[part] = ops.target_logps(logits, targets[part])
                continue
            for block in cached_blocks(logits):
                logps[part][block] = token_logps(logits[block], targets[part][block])
        ctx.save_for_backward(hidden, weight, targets)
        ctx.logits = logits if len(ctx.chunks) == 1 and any(ctx.needs_input_grad) else None
        return logps

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, targets = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight: Tensor | None = None
        for part in ctx.chunks:
            logits, ctx.logits = ctx.logits, None
            logits = hidden[part] @ weight.T if logits is None else logits
            _to_gradient(logits, targets[part], grad_outputs[0][part])
            if grad_hidden is not None:
                torch.mm(logits, weight, out=grad_hidden[part])
            if needs_weight:
                grad_weight = added(grad_weight, logits.T @ hidden[part], is_only=len(ctx.chunks) == 1)
        if needs_weight and grad_weight is None:
            grad_weight = torch.zeros_like(weight)
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None


def _to_gradient(logits: Tensor, targets: Tensor, grad: Tensor) -> None:
    """Logits become d(sum of grad * logp) / d logits: grad * (one-hot - softmax)."""
    if ops.can(logits):
        ops.turn_to_gradient(logits, targets, grad)
        return
    for block in cached_blocks(logits):
        factor, wanted = grad[block, None], targets[block, None]
        gradient = torch.softmax(logits[block], dim=-1, dtype=torch.float32).mul_(-factor)
        logits[block] = gradient.scatter_add_(1, wanted, factor)
