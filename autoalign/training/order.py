"""Which rows meet in which step: a pure function of lengths, seed and step.

A step's global batch depends on the seed and the number of rows in it alone, not on how
many workers share it, so that two workers compute what one would, and a resumed run sees
what the unbroken one would have seen, with no state but the step.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Bin = list[int]
"""Rows (by index) that travel together: one row, or the rows packed into one bin."""

_GROUPS_PER_SORT = 50
"""Global batches whose rows are sorted together: long enough to find similar lengths."""


@dataclass
class DataOrder:
    """The rows of every step.

    Args:
        lengths: tokens of each row.
        micro_batch_size: bins a worker takes at once.
        micro_batches: micro-batches in a global step, over all workers.
        capacity: tokens a packed bin holds; None: every row is a bin of its own.
    """

    lengths: Sequence[int]
    micro_batch_size: int
    micro_batches: int
    seed: int
    capacity: int | None = None
    group_by_length: bool = True
    _epoch: tuple[int, list[Bin]] | None = field(default=None, init=False, repr=False)

    @property
    def batch_size(self) -> int:
        """Bins in a global step."""
        return self.micro_batch_size * self.micro_batches

    @property
    def steps_per_epoch(self) -> int:
        """Global steps in a pass over the data; the last one may be smaller."""
        return math.ceil(len(self._epoch_bins(0)) / self.batch_size)

    def step(self, step: int) -> list[list[int]]:
        """Row indices of each of the step's `micro_batches` (some empty at an epoch's end)."""
        epoch, index = divmod(step, self.steps_per_epoch)
        bins = self._epoch_bins(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        return [
            sorted(part) for part in balance(bins, self.lengths, self.micro_batches, self.micro_batch_size)
        ]

    def _epoch_bins(self, epoch: int) -> list[Bin]:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._arrange(epoch))
        return self._epoch[1]

    def _arrange(self, epoch: int) -> list[Bin]:
        rng = np.random.default_rng([self.seed, epoch])
        rows = rng.permutation(len(self.lengths)).tolist()
        if self.capacity is not None:
            bins = pack(rows, self.lengths, self.capacity)
            return [bins[index] for index in rng.permutation(len(bins))]
        if self.group_by_length:
            rows = _grouped(rows, self, rng)
        return [[row] for row in rows]


def _grouped(rows: list[int], order: DataOrder, rng: np.random.Generator) -> list[int]:
    """Sort by length inside large groups, then shuffle the batches cut from them."""
    group = order.batch_size * _GROUPS_PER_SORT
    batches: list[list[int]] = []
    for start in range(0, len(rows), group):
        ordered = sorted(rows[start : start + group], key=lambda row: -order.lengths[row])
        batches += [ordered[i : i + order.batch_size] for i in range(0, len(ordered), order.batch_size)]
    whole = [batch for batch in batches if len(batch) == order.batch_size]
    partial = [row for batch in batches if len(batch) < order.batch_size for row in batch]
    return [row for index in rng.permutation(len(whole)) for row in whole[index]] + partial


def pack(rows: Sequence[int], lengths: Sequence[int], capacity: int) -> list[Bin]:
    """Best-fit decreasing bin packing: each row goes where it leaves the least space.

    Rows longer than `capacity` get a bin of their own.
    """
    bins: list[Bin] = []
    by_space: dict[int, list[int]] = {}
    spaces: list[int] = []
    for row in sorted(rows, key=lambda row: -lengths[row]):
        at = bisect.bisect_left(spaces, lengths[row])
        if at == len(spaces):
            target, space = len(bins), capacity
            bins.append([])
        else:
            space = spaces[at]
            target = by_space[space].pop()
            if not by_space[space]:
                del by_space[space], spaces[at]
        bins[target].append(row)
        left = space - lengths[row]
        if left > 0:
            if left not in by_space:
                by_space[left] = []
                bisect.insort(spaces, left)
            by_space[left].append(target)
    return bins


def balance(bins: Sequence[Bin], lengths: Sequence[int], parts: int, room: int) -> list[list[int]]:
    """Spread bins over `parts` micro-batches of at most `room` bins, tokens as even as greedy gets."""
    filled: list[list[int]] = [[] for _ in range(parts)]
    tokens, taken = [0] * parts, [0] * parts
    weigh = [sum(lengths[row] for row in bin_) for bin_ in bins]
    for index in sorted(range(len(bins)), key=lambda index: -weigh[index]):
        part = min((p for p in range(parts) if taken[p] < room), key=lambda p: (tokens[p], p))
        filled[part] += bins[index]
        tokens[part] += weigh[index]
        taken[part] += 1
    return filled
