"""What `kernels.c` does, on tensors; `can` says whether it may be asked: bfloat16, CPU, a compiler."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from autoalign.kernels import library

_PARTS = 32
"""Ranges of rows whose gradients of a norm's weight are summed apart, whatever the number of threads."""


def can(*tensors: Tensor) -> bool:
    """Whether all of `tensors` are bfloat16 on a CPU, and there is a library for them."""
    is_ours = all(tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" for tensor in tensors)
    return is_ours and library.load() is not None


def rms_norm(
    hidden: Tensor, weight: Tensor, eps: float, inverse: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """weight * hidden / sqrt(mean(hidden^2) + eps).

    Args:
        hidden: (..., width).
        weight: (width,).
        inverse: (..., 1) float32, what an earlier call gave back: it is not worked out again.

    Returns:
        The normed tensor, and `inverse`.
    """
    hidden, width = hidden.contiguous(), hidden.shape[-1]
    out = torch.empty_like(hidden)
    given = inverse is not None
    if inverse is None:
        inverse = torch.empty(*hidden.shape[:-1], 1, dtype=torch.float32)
    rows = hidden.numel() // width
    _library().rms_norm(*_at(hidden, weight.contiguous()), eps, given, rows, width, *_at(out, inverse))
    return out, inverse


def rms_norm_backward(grad: Tensor, hidden: Tensor, weight: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `rms_norm` in `hidden` and `weight`."""
    grad, hidden, width = grad.contiguous(), hidden.contiguous(), hidden.shape[-1]
    grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros(_PARTS, width, dtype=torch.float32)
    rows = hidden.numel() // width
    given = _at(grad, hidden, weight.contiguous(), inverse)
    _library().rms_norm_backward(*given, rows, width, _PARTS, *_at(grad_hidden, grad_weight))
    return grad_hidden, grad_weight.sum(0).to(weight.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, element by element."""
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    _library().swiglu(*_at(gate, up), gate.numel(), *_at(out))
    return out


def swiglu_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `swiglu` in `gate` and `up`."""
    grad, gate, up = grad.contiguous(), gate.contiguous(), up.contiguous()
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
    _library().swiglu_backward(*_at(grad, gate, up), gate.numel(), *_at(grad_gate, grad_up))
    return grad_gate, grad_up


def rotate(states: Tensor, cosine: Tensor, sine: Tensor, out: Tensor, backwards: bool = False) -> Tensor:
    """Rotary position embedding (arXiv:2104.09864) of the halves of each head, into `out`.

    Args:
        states, out: (heads, tokens, head_dim), contiguous in the last dimension.
        cosine, sine: (tokens, head_dim), contiguous.
        backwards: the transposed rotation, which maps gradients of the result to those of `states`.
    """
    heads, tokens, width = states.shape
    _library().rotate(
        *_at(states), *states.stride()[:2], *_at(cosine, sine), -1 if backwards else 1,
        heads, tokens, width, *_at(out), *out.stride()[:2],
    )  # fmt: skip
    return out


def target_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows,) float32 log softmax(logits)[target] of (rows, vocab) `logits` and (rows,) int64 `targets`."""
    return _softmax_rows(logits, targets, None)


def turn_to_gradient(logits: Tensor, targets: Tensor, factors: Tensor) -> Tensor:
    """`target_logps`; rows of `logits` become factor * (one-hot - softmax): gradients of factor * logp.

    Args:
        factors: (rows,) float32.
    """
    return _softmax_rows(logits, targets, factors.contiguous())


def _softmax_rows(logits: Tensor, targets: Tensor, factors: Tensor | None) -> Tensor:
    rows, vocab = logits.shape
    if not logits.is_contiguous() or len(targets) != rows:
        raise ValueError(f"logits must be contiguous, with a target each: {logits.stride()}, {targets.shape}")
    if rows and not 0 <= int(targets.min()) <= int(targets.max()) < vocab:
        raise IndexError(f"a target is not among the {vocab} tokens of the vocabulary")
    logps = torch.empty(rows, dtype=torch.float32)
    places = None if factors is None else factors.data_ptr()
    _library().softmax_rows(*_at(logits, targets.contiguous()), places, rows, vocab, *_at(logps))
    return logps


def _library() -> ctypes.CDLL:
    found = library.load()
    assert found is not None, "ask `can` first"
    return found


def _at(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
