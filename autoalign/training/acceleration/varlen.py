"""Attention inside rows as one call of FlashAttention's kernel for rows of different lengths.

FlashAttention-2 (arXiv:2307.08691) takes where each row begins; no mask, and no row sees another.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from autoalign.training.attention import require_rows, rows_of

NAME = "autoalign_varlen"


def attend_varlen(
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
    """Causal attention inside each row; arguments, result and errors as attention.attend_rows."""
    from flash_attn import flash_attn_varlen_func

    rows = rows_of(require_rows(module, attention_mask, row_lengths, kwargs), shared_lengths)
    own = tuple(row.stop - row.start for row in rows)
    seen = tuple(row.shared + length for row, length in zip(rows, own, strict=True))
    if seen != own:
        key, value = (torch.cat([row.of(part[0]) for row in rows], 1)[None] for part in (key, value))
    # With more keys than queries the kernel lines the two up at their ends.
    output = flash_attn_varlen_func(
        *(tensor[0].transpose(0, 1) for tensor in (query, key, value)),
        row_edges(own, query.device),
        row_edges(seen, query.device),
        max(own),
        max(seen),
        dropout_p=dropout if module.training else 0.0,
        softmax_scale=scaling,
        causal=True,
        # Both ends count: the token itself is beside the window's tokens before it.
        window_size=(-1, -1) if sliding_window is None else (sliding_window - 1, 0),
    )
    return output[None], None


@lru_cache(maxsize=8)
def row_edges(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """(rows + 1,) int32: where each row begins, and where the last one ends."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
