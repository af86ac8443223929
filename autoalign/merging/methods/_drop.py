"""DARE's drop and rescale (arXiv:2311.03099, section 3.2), the same however a tensor is cut."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from autoalign.merging.stack import Stack

_CELL = 1 << 16  # elements that share one random stream


def drop_and_rescale(stack: Stack, density: float, seed: int) -> list[Tensor]:
    """Each task vector with its elements kept by chance and rescaled, so that its expectation stays.

    m ~ Bernoulli(density);  d~ = m * d / density

    The chance of an element follows from (seed, tensor's name, model's place, element's place) alone.
    """
    kept = []
    for place, delta in enumerate(stack.deltas):
        uniform = _uniform(f"{seed}:{stack.name}:{place}", stack.start, stack.start + delta.numel())
        kept.append(torch.where(uniform < density, delta / density, 0.0))
    return kept


def _uniform(key: str, start: int, stop: int) -> Tensor:
    """Elements `start` to `stop` of the endless float32 stream that belongs to `key`, in [0, 1)."""
    first, last = start // _CELL, (max(stop, start + 1) - 1) // _CELL
    cells = []
    for cell in range(first, last + 1):
        digest = hashlib.sha256(f"{key}:{cell}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        cells.append(torch.rand(_CELL, generator=generator))
    return torch.cat(cells)[start - first * _CELL : stop - first * _CELL]
