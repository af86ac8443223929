"""Sums of gradients in float32, without a float32 copy of what is added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_NUMEL = 1 << 20
"""Numbers added at a time: on a CPU, adding bfloat16 to float32 makes a float32 copy of it first."""


def added(total: Tensor | None, gradient: Tensor, *, is_only: bool = False) -> Tensor:
    """`total + gradient` in float32, into `total`'s memory: bfloat16 would lose what is small beside the sum.

    Args:
        total: what `added` gave before; None for the first gradient.
        is_only: there is but this one, which stays as it is.
    """
    if total is None:
        return gradient if is_only else gradient.float()
    for sums, numbers in parts([total, gradient], _NUMEL):
        sums.add_(numbers)
    return total


def parts(tensors: Sequence[Tensor], numel: int) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same rows of tensors of one shape, of about `numel` numbers each."""
    rows = [torch.atleast_1d(tensor) for tensor in tensors]
    size = max(1, numel * len(rows[0]) // max(1, rows[0].numel()))
    return zip(*(tensor.split(size) for tensor in rows), strict=True)
