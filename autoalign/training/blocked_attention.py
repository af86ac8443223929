"""Causal attention in bfloat16 on a CPU, as batched matrix products over blocks of queries.

PyTorch's CPU kernel spends most of its time outside the matrix products; on rows of a few
hundred tokens this takes about half as long, backward included (docs/benchmarks.md). As in
FlashAttention (arXiv:2205.14135) probabilities are never kept: the backward pass makes each
block's again. A block's queries of all heads that share a key head are one matrix, so that
the sum over the group happens inside the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from autoalign.training.attention import Row

_BLOCK = 160
"""Queries of a block at most: long enough for the matrix products, short enough to skip most masked keys."""


def attend_blocked(query: Tensor, key: Tensor, value: Tensor, rows: Sequence[Row], scale: float) -> Tensor:
    """Causal attention inside each row.

    Args:
        query: (1, heads, tokens, head_dim); `key` and `value` (1, kv_heads, tokens, head_dim).
        scale: factor of the scores.

    Returns:
        (1, tokens, heads, head_dim), contiguous.
    """
    attended: Tensor = _BlockedAttention.apply(query, key, value, rows, scale)  # type: ignore[no-untyped-call]
    return attended


class _Block(NamedTuple):
    """Queries `start` to `stop` of the sequence, and how many of their row's keys they see."""

    start: int
    stop: int
    keys: int


def _blocks(row: Row) -> Iterator[_Block]:
    """As few as can be, of like size; the last one first, which sees all keys."""
    length = row.stop - row.start
    count = -(-length // _BLOCK)
    for index in reversed(range(count)):
        stop = length * (index + 1) // count
        yield _Block(row.start + length * index // count, row.start + stop, row.shared + stop)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, rows: Sequence[Row], scale: float
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.rows, ctx.scale = rows, scale
        _, heads, tokens, width = query.shape
        attended = query.new_empty(1, tokens, heads, width)
        queries = _grouped(query[0] * scale, key)
        out = _grouped(attended[0].transpose(0, 1), key)
        mask = _causal_mask(query)
        for row in rows:
            k, v = row.of(key[0]), row.of(value[0])
            for block in _blocks(row):
                q = queries[:, :, block.start : block.stop]
                weights = _weights(_matrix(q), k[:, : block.keys], mask, len(q[0]))
                out[:, :, block.start : block.stop] = torch.bmm(weights, v[:, : block.keys]).view_as(q)
        return attended

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value = ctx.saved_tensors
        queries = _grouped(query[0] * ctx.scale, key)
        grads = _grouped(grad_outputs[0][0].transpose(0, 1), key)
        grad_query = torch.empty_like(query)
        grad_queries = _grouped(grad_query[0], key)
        grad_key, grad_value = (torch.empty(key.shape[1:], dtype=torch.float32) for _ in range(2))
        mask = _causal_mask(query)
        for row in ctx.rows:
            k, v = row.of(key[0]), row.of(value[0])
            for block in _blocks(row):
                q = queries[:, :, block.start : block.stop]
                query_rows, grad_rows = _matrix(q), _matrix(grads[:, :, block.start : block.stop])
                seen_keys, seen_values = k[:, : block.keys], v[:, : block.keys]
                weights = _weights(query_rows, seen_keys, mask, len(q[0]))
                grad_weights = torch.bmm(grad_rows, seen_values.transpose(1, 2))
                grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
                grad_queries[:, :, block.start : block.stop] = torch.bmm(grad_scores, seen_keys).view_as(q)
                _add(grad_value, row, torch.bmm(weights.transpose(1, 2), grad_rows))
                _add(grad_key, row, torch.bmm(grad_scores.transpose(1, 2), query_rows))
        grad_query.mul_(ctx.scale)
        return grad_query, grad_key[None].to(key.dtype), grad_value[None].to(value.dtype), None, None


def _grouped(heads: Tensor, key: Tensor) -> Tensor:
    """(heads, tokens, width) as (kv_heads, heads a group, tokens, width), a view."""
    return heads.view(key.shape[1], -1, *heads.shape[1:])


def _matrix(queries: Tensor) -> Tensor:
    """(kv_heads, group, block, width) as (kv_heads, group * block, width)."""
    return queries.flatten(1, 2)


def _causal_mask(like: Tensor) -> Tensor:
    """(_BLOCK, _BLOCK): 0 where a query sees a key of its own block, -inf above the diagonal."""
    return torch.full((_BLOCK, _BLOCK), float("-inf"), dtype=like.dtype).triu_(1)


def _weights(queries: Tensor, keys: Tensor, mask: Tensor, group: int) -> Tensor:
    """(kv_heads, group * block, keys) attention weights; softmax runs in float32 inside."""
    scores = torch.bmm(queries, keys.transpose(1, 2))
    block = queries.shape[1] // group
    scores.unflatten(1, (group, block))[..., -block:].add_(mask[:block, :block])
    weights: Tensor = torch.softmax(scores, -1)
    return weights


def _add(total: Tensor, row: Row, gradient: Tensor) -> None:
    """Add a block's gradient of its row's first keys; the last block begins what the row has of its own."""
    shared = min(row.shared, gradient.shape[1])
    if shared:
        total[:, row.shared_start : row.shared_start + shared] += gradient[:, :shared]
    own = total[:, row.start : row.start + gradient.shape[1] - shared]
    if own.shape[1] == row.stop - row.start:
        own.copy_(gradient[:, shared:])
    else:
        own += gradient[:, shared:]
