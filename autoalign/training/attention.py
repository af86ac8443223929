"""Attention that never crosses rows, over rows laid out end to end in one sequence.

The linear layers see one long sequence without padding; attention runs row by row. On a CPU
that beats a dense block-diagonal mask and padding alike, and it is exact: a row's output does
not depend on its neighbours. A row may begin with the first tokens of the row before it, which
are then computed once: that is how two answers share their prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NAME = "autoalign_rows"
_BEYOND_ROWS = ("s_aux", "softcap", "position_bias", "indices", "block_indices")
"""Attention sinks, soft caps, biases, and choices of keys, as models hand them to their attention."""


class Row(NamedTuple):
    """Where a row lies in the sequence: its own tokens, and those it shares with the row before."""

    start: int
    stop: int
    shared_start: int = 0
    shared: int = 0

    def of(self, sequence: Tensor) -> Tensor:
        """(heads, shared + own tokens, head_dim) of a (heads, tokens, head_dim) tensor."""
        own = sequence[:, self.start : self.stop]
        if not self.shared:
            return own
        return torch.cat((sequence[:, self.shared_start : self.shared_start + self.shared], own), 1)


def rows_of(lengths: Sequence[int], shared: Sequence[int] | None = None) -> list[Row]:
    """The rows that lie end to end.

    Args:
        lengths: tokens of each row that are its own.
        shared: leading tokens of the row before that each row also begins with; None: none.
    """
    rows: list[Row] = []
    stop = before = 0
    for length, prefix in zip(lengths, shared or [0] * len(lengths), strict=True):
        rows.append(Row(stop, stop + length, before, prefix))
        before, stop = stop, stop + length
    return rows


def no_mask(*args: Any, **kwargs: Any) -> None:
    """Rows are separated by slicing; no mask is built."""


def require_rows(
    module: torch.nn.Module,
    attention_mask: Tensor | None,
    row_lengths: tuple[int, ...] | None,
    given: Mapping[str, Any],
) -> tuple[int, ...]:
    """The row lengths, for a kernel that gives each row causal attention and nothing else.

    Args:
        attention_mask: None, unless the model makes one of its own.
        given: what else the model hands to its attention.

    Raises:
        ValueError: the model asks for more, or loses the row lengths on their way.
    """
    asked = [name for name in _BEYOND_ROWS if given.get(name) is not None]
    asked += ["attention_mask"] if attention_mask is not None else []
    asked += ["is_causal"] if given.get("is_causal") is False else []
    asked += [] if row_lengths else ["no row_lengths"]
    if asked or not row_lengths:
        raise ValueError(
            f"{type(module).__name__} attends with {', '.join(asked)}, which rows laid end to end can't "
            "have: set padding_free to false"
        )
    return row_lengths


def attend_rows(
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
    """Causal attention inside each row.

    Args:
        query: (1, heads, tokens, head_dim); `key` and `value` (1, kv_heads, tokens, head_dim).
        row_lengths: tokens of each row, in order; their sum is `tokens`.
        shared_lengths: leading tokens of the row before that each row also sees; None: none.
        sliding_window: a token sees itself and this many minus one before it.

    Returns:
        (1, tokens, heads, head_dim) and no attention weights.

    Raises:
        ValueError: the model asks for more than that (`require_rows`).
    """
    from autoalign.training.blocked_attention import attend_blocked

    rows = rows_of(require_rows(module, attention_mask, row_lengths, kwargs), shared_lengths)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    dropout = dropout if module.training else 0.0
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and not (dropout or sliding_window):
        return attend_blocked(query, key, value, rows, scale), None
    outputs = [_causal(query, key, value, row, scale, dropout, sliding_window) for row in rows]
    return torch.cat(outputs, dim=1).transpose(0, 1)[None].contiguous(), None


def _causal(
    query: Tensor, key: Tensor, value: Tensor, row: Row, scale: float, dropout: float, window: int | None
) -> Tensor:
    """(heads, own tokens, head_dim): a row's own queries over all its keys."""
    q, k, v = query[:, :, row.start : row.stop], row.of(key[0])[None], row.of(value[0])[None]
    mask = None
    if row.shared or (window is not None and k.shape[2] > window):
        places = torch.arange(k.shape[2], device=q.device)
        distance = places[row.shared :, None] - places
        mask = (distance >= 0) & (distance < (window or k.shape[2]))
    attended = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return attended[0]
