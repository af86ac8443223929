"""The k-th largest magnitude of tensors that are seen in stretches, exactly, in two passes.

The bits of a non-negative float32, read as an integer, are in the order of their values. So a
histogram of the upper 16 bits finds the bin that holds the k-th largest, and one of the lower
16 bits within that bin finds the value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_BINS = 1 << 16


def kth_largest(stretches: Callable[[], Iterable[list[Tensor]]], k: int) -> list[float]:
    """For each of several tensors its k-th largest magnitude, rounded to float32.

    Args:
        stretches: gives, stretch by stretch, one (n,) tensor of each; called twice.
        k: 1 for the largest.
    """
    high = _histograms(stretches, lambda bits, _: bits >> 16)
    found = [_bin_from_above(histogram, k) for histogram in high]
    tops = [top for top, _ in found]
    low = _histograms(stretches, lambda bits, place: bits[bits >> 16 == tops[place]] & (_BINS - 1))
    ends = [_bin_from_above(histogram, rest)[0] for histogram, (_, rest) in zip(low, found, strict=True)]
    return [_float_of(top << 16 | end) for top, end in zip(tops, ends, strict=True)]


def magnitude(tensor: Tensor) -> Tensor:
    """(n,) float32: what is compared with the k-th largest."""
    return tensor.float().abs()


def _histograms(
    stretches: Callable[[], Iterable[list[Tensor]]], key: Callable[[Tensor, int], Tensor]
) -> list[Tensor]:
    totals: list[Tensor] = []
    for tensors in stretches():
        totals = totals or [torch.zeros(_BINS, dtype=torch.int64) for _ in tensors]
        for place, tensor in enumerate(tensors):
            bits = magnitude(tensor).view(torch.int32)
            totals[place] += torch.bincount(key(bits, place), minlength=_BINS)
    return totals


def _bin_from_above(histogram: Tensor, k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest, and which one from above it is within that bin."""
    from_above = histogram.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_above, k))
    before = int(from_above[place - 1]) if place else 0
    return _BINS - 1 - place, k - before


def _float_of(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value
