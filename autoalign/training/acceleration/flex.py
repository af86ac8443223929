"""Attention inside rows as one FlexAttention kernel: for GPUs without FlashAttention.

FlexAttention (arXiv:2412.05496) compiles a kernel from a rule of which token sees which, and skips
blocks of tokens that see nothing of each other; rows laid end to end cost what they would alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from autoalign.training.attention import Row, require_rows, rows_of

NAME = "autoalign_flex"


def attend_flex(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    row_lengths: tuple[int, ...] | None = None,
    shared_lengths: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each row; arguments and result as attention.attend_rows.

    Raises:
        ValueError: attention dropout, which FlexAttention lacks, or what `require_rows` refuses.
    """
    if dropout and module.training:
        raise ValueError("flex_attention has no dropout: set the model's attention_dropout to 0")
    rows = tuple(rows_of(require_rows(module, attention_mask, row_lengths, kwargs), shared_lengths))
    output = _kernel(query.device.type)(
        query,
        key,
        value,
        block_mask=block_mask(rows, sliding_window, query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.transpose(1, 2).contiguous(), None


@lru_cache(maxsize=8)
def block_mask(rows: tuple[Row, ...], window: int | None, device: torch.device) -> Any:
    """Which blocks of tokens see each other; all layers of a batch, and its recomputation, share one.

    Args:
        rows: as they lie end to end.
        window: a token sees itself and this many minus one before it.
    """
    from torch.nn.attention import flex_attention

    bounds = torch.tensor(rows, device=device)
    lengths = bounds[:, 1] - bounds[:, 0]
    starts, _, shared_starts, shared = bounds.repeat_interleave(lengths, 0).unbind(1)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (key >= starts[query]) & (key <= query)
        before = (key >= shared_starts[query]) & (key < shared_starts[query] + shared[query])
        if window is None:
            return own | before
        # Between the shared tokens and the row's own lie none that count.
        gap = starts[query] - shared_starts[query] - shared[query]
        return (own & (query - key < window)) | (before & (query - key - gap < window))

    make = flex_attention.create_block_mask
    if device.type == "cuda":
        # Eagerly it would hold a matrix of all pairs of tokens.
        make = _compiled(make)
    tokens = rows[-1].stop
    return make(sees, None, None, tokens, tokens, device=device)


@cache
def _kernel(device_type: str) -> Callable[..., Tensor]:
    """Compiled on a GPU; on a CPU the plain formula, which is for comparing with."""
    from torch.nn.attention.flex_attention import flex_attention

    kernel: Any = flex_attention
    return _compiled(kernel) if device_type == "cuda" else kernel


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)
