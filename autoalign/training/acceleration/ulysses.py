"""Attention over rows that several ranks share: tokens are exchanged for heads, and back.

Before attention each rank holds a stretch of tokens of all heads; one all-to-all gives it all
tokens of its part of the heads, whichever kernel then attends, and a second one undoes it
(arXiv:2309.14509, section 3). It is PyTorch's collective and not DeepSpeed's, so that it runs
under the plain engine too, and key and value heads of any number (arXiv:2506.13996, section 3.2.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from autoalign.errors import ConfigError
from autoalign.training.acceleration.sequence_parallel import Share

Attention = Callable[..., tuple[Tensor, None]]


def require_divisible(heads: int, size: int) -> None:
    """Every rank gets as many query heads.

    Raises:
        ConfigError: `size` does not divide `heads`.
    """
    if heads % size:
        fitting = ", ".join(str(n) for n in range(2, heads + 1) if heads % n == 0)
        raise ConfigError(
            f"'sequence_parallel_size' {size} does not divide the model's {heads} attention heads; "
            f"{fitting} would"
        )


def around(attend: Attention) -> Attention:
    """`attend` over whole rows, for this rank's heads; as it is for a batch that is not shared."""

    def attend_shared(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        share: Share | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """As attention.attend_rows, of (1, heads, tokens / ranks, head_dim)."""
        if share is None:
            return attend(module, query, key, value, attention_mask, **kwargs)
        key, value = (repeat_heads(tensor, share.size) for tensor in (key, value))
        whole = [_tokens_for_heads(tensor, share) for tensor in (query, key, value)]
        output, _ = attend(module, *whole, attention_mask, **kwargs)
        return _heads_for_tokens(output, share), None

    return attend_shared


def repeat_heads(tensor: Tensor, ranks: int) -> Tensor:
    """(1, kv_heads, tokens, head_dim) with each head as often as `ranks` can divide them.

    With lcm(kv_heads, ranks) heads each rank's queries find their own keys among the rank's,
    in order, as queries and keys did before.
    """
    heads = tensor.shape[1]
    return tensor.repeat_interleave(math.lcm(heads, ranks) // heads, dim=1)


def _tokens_for_heads(tensor: Tensor, share: Share) -> Tensor:
    """(1, heads, tokens / ranks, head_dim) of each rank: (1, heads / ranks, tokens, head_dim)."""
    _, heads, length, width = tensor.shape
    parts = tensor.reshape(share.size, heads // share.size, length, width)
    gathered = _exchange(parts, share.process_group)  # (rank of the tokens, heads, length, width)
    return gathered.transpose(0, 1).reshape(1, heads // share.size, share.size * length, width)


def _heads_for_tokens(output: Tensor, share: Share) -> Tensor:
    """(1, tokens, heads / ranks, head_dim) of each rank: (1, tokens / ranks, heads, head_dim)."""
    _, length, heads, width = output.shape
    parts = output.reshape(share.size, length // share.size, heads, width)
    gathered = _exchange(parts, share.process_group)  # (rank of the heads, length, heads, width)
    return gathered.transpose(0, 1).reshape(1, length // share.size, share.size * heads, width)


def _exchange(parts: Tensor, process_group: Any) -> Tensor:
    """(ranks, ...): part i goes to rank i, and rank i's part comes back in its place."""
    exchanged: Tensor = _AllToAll.apply(parts, process_group)  # type: ignore[no-untyped-call]
    return exchanged


class _AllToAll(torch.autograd.Function):
    """Its own transpose: gradients go back the way the values came."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, process_group: Any) -> Tensor:
        ctx.process_group = process_group
        return _all_to_all(parts, process_group)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return _all_to_all(grad_outputs[0], ctx.process_group), None


def _all_to_all(parts: Tensor, process_group: Any) -> Tensor:
    received = torch.empty_like(parts, memory_format=torch.contiguous_format)
    dist.all_to_all_single(received, parts.contiguous(), group=process_group)
    return received
