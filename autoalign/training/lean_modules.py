"""RMSNorm, SwiGLU and RoPE that keep little for the backward pass, in place of transformers' own.

Written out operation by operation, a norm keeps three copies of its input, two of them in
float32, and a gated MLP keeps two activations that follow from what is kept anyway. On a CPU
these are most of a training step's activations, and what they cost is memory traffic. Here
each is one function with a backward pass of its own (as in Liger Kernel, arXiv:2410.10989),
and a tensor that a later matrix product keeps for its weights' gradient is made again instead.
In bfloat16 on a CPU each is one pass over memory (`autoalign/kernels/`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoalign.kernels import ops

_NORMS = frozenset({"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"})
_MLPS = frozenset({"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP"})
_ATTENTIONS = frozenset({"LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention"})
_ROPE = "apply_rotary_pos_emb"
_SILU = frozenset({"SiLU", "SiLUActivation"})

Maker = Callable[[], Tensor]


def make_lean(model: nn.Module) -> int:
    """Give the modules of `model` that are known their lean forward passes.

    Returns:
        How many were changed; 0 for an architecture that is not known.
    """
    changed = 0
    for module in model.modules():
        kind: Any = type(module)
        if kind.__name__ in _NORMS:
            module.__class__ = _with_forward(kind, _norm_forward)
        elif kind.__name__ in _MLPS and type(module.act_fn).__name__ in _SILU:
            module.__class__ = _with_forward(kind, _mlp_forward)
        elif kind.__name__ in _ATTENTIONS and _ROPE in kind.forward.__code__.co_names:
            module.__class__ = _with_forward(kind, _with_lean_rope(kind.forward))
        else:
            continue
        changed += 1
    return changed


@cache
def _with_lean_rope(forward: Any) -> Any:
    """A copy of an attention's `forward` that calls our RoPE; the module that it comes from is left alone."""
    names = {**forward.__globals__, _ROPE: partial(rope, otherwise=forward.__globals__[_ROPE])}
    copied = FunctionType(
        forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__
    )
    copied.__kwdefaults__ = forward.__kwdefaults__
    return copied


@cache
def _with_forward(kind: Any, forward: Callable[..., Tensor]) -> Any:
    """A subclass, and not a method of the instance: that would be a cycle, and keep a whole model alive."""
    return type(f"Lean{kind.__name__}", (kind,), {"forward": forward})


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * hidden / sqrt(mean(hidden^2) + eps), in float32 inside (arXiv:1910.07467).

    Args:
        hidden: (..., width).
        weight: (width,).
    """
    normed: Tensor = _RMSNorm.apply(hidden, weight, eps)  # type: ignore[no-untyped-call]
    return normed


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (arXiv:2002.05202), element by element."""
    product: Tensor = _SwiGLU.apply(gate, up)  # type: ignore[no-untyped-call]
    return product


def rope(
    query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor, *rest: Any, otherwise: Callable[..., Any]
) -> tuple[Tensor, Tensor]:
    """Rotary position embedding of queries and keys (arXiv:2104.09864).

    Args:
        query: (batch, heads, tokens, head_dim); `key` with its own number of heads.
        cosine, sine: (batch, tokens, head_dim).
        otherwise: transformers' own, for what is not one sequence in bfloat16 on a CPU.
    """
    one = query.shape[0] == 1 and query.stride(-1) == key.stride(-1) == 1
    if rest or not one or cosine.shape[-1] != query.shape[-1] or not ops.can(query, key, cosine, sine):
        turned: tuple[Tensor, Tensor] = otherwise(query, key, cosine, sine, *rest)
        return turned
    angles = cosine[0].contiguous(), sine[0].contiguous()
    return _Rope.apply(query, *angles), _Rope.apply(key, *angles)  # type: ignore[no-untyped-call]


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        out = states.new_empty(states.shape)
        ops.rotate(states[0], cosine, sine, out[0])
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grad_outputs
        grad = grad if grad.stride(-1) == 1 else grad.contiguous()
        # As the projection that made the states lays them out: all heads of a token together.
        _, heads, tokens, width = grad.shape
        out = grad.new_empty(1, tokens, heads, width).transpose(1, 2)
        cosine, sine = ctx.saved_tensors
        ops.rotate(grad[0], cosine, sine, out[0], backwards=True)
        return out, None, None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        if ops.can(hidden, weight):
            normed, inverse = ops.rms_norm(hidden.detach(), weight.detach(), eps)
        else:
            wide = torch.promote_types(hidden.dtype, torch.float32)
            inverse = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=wide).square_()
            inverse.div_(hidden.shape[-1]).add_(eps).rsqrt_()
            normed = _normed(hidden.detach(), weight.detach(), inverse)
        ctx.save_for_backward(hidden, weight, inverse)
        return _made_again.note(normed, partial(_normed, hidden.detach(), weight.detach(), inverse))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, weight, inverse = ctx.saved_tensors
        if ops.can(grad_outputs[0], hidden, weight):
            return *ops.rms_norm_backward(grad_outputs[0], hidden, weight, inverse), None
        grad = grad_outputs[0].to(inverse.dtype)
        unit = hidden * inverse
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad * unit).flatten(0, -2).sum(0).to(weight.dtype)
        grad = grad * weight
        share = (unit * grad).mean(-1, keepdim=True)
        return grad.addcmul_(unit, share, value=-1).mul_(inverse).to(hidden.dtype), grad_weight, None


def _normed(hidden: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    if ops.can(hidden, weight):
        return ops.rms_norm(hidden, weight, 0.0, inverse)[0]
    return (hidden * inverse).to(hidden.dtype) * weight


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        make = partial(_product, gate.detach(), up.detach())
        return _made_again.note(make(), make)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        (grad,) = grad_outputs
        if ops.can(grad, gate, up):
            return ops.swiglu_backward(grad, gate, up)
        return torch.ops.aten.silu_backward(grad * up, gate), _product(gate, grad)


def _product(gate: Tensor, up: Tensor) -> Tensor:
    if ops.can(gate, up):
        return ops.swiglu(gate, up)
    return F.silu(gate).mul_(up)


def _norm_forward(self: Any, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, self.weight, self.variance_epsilon)


def _mlp_forward(self: Any, x: Tensor) -> Tensor:
    down: Tensor = self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))
    return down


class _MadeAgain:
    """Tensors that autograd need not keep, since a function of what it keeps makes them again."""

    def __init__(self) -> None:
        self._makers: dict[int, tuple[int, Maker]] = {}
        self._active = False

    def note(self, tensor: Tensor, make: Maker) -> Tensor:
        """Remember that `make()` gives `tensor` again, for as long as `tensor` lives."""
        if self._active:
            place = tensor.data_ptr()
            self._makers[place] = tensor.numel(), make
            weakref.finalize(tensor.untyped_storage(), self._makers.pop, place, None)
        return tensor

    @contextmanager
    def instead_of_kept(self) -> Iterator[None]:
        """Let autograd keep the makers of noted tensors in place of the tensors."""
        self._active = True
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack):
                yield
        finally:
            self._active = False
            self._makers.clear()

    def _pack(self, tensor: Tensor) -> Tensor | tuple[Maker, torch.Size]:
        numel, make = self._makers.get(tensor.data_ptr(), (-1, None))
        if make is None or numel != tensor.numel() or not tensor.is_contiguous():
            return tensor
        return make, tensor.shape

    @staticmethod
    def _unpack(packed: Tensor | tuple[Maker, torch.Size]) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        make, shape = packed
        return make().view(shape)


_made_again = _MadeAgain()
make_again_instead_of_keeping = _made_again.instead_of_kept
