"""The order of rows that lie in shards: shuffled in windows of a few shards, so that few are open at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from autoalign.training.order import DataOrder
from autoalign.training.packing import Bin, pack

WINDOW = 16
"""Shards whose rows are shuffled together."""


@dataclass
class WindowedOrder(DataOrder):
    """A pure function of lengths, shard sizes, seed and step, as `DataOrder` is of lengths, seed and step.

    By the seed, shards are put together in windows, rows (or bins) in each; every epoch shuffles the
    windows, and the rows in each. A window gives whole steps; what is over in all of them comes last.

    Args:
        shard_sizes: examples of each shard, in order.
        window: shards in a window.
    """

    shard_sizes: Sequence[int] = ()
    window: int = WINDOW
    _arranged: tuple[tuple[int, int], list[Bin]] | None = field(default=None, init=False, repr=False)

    @property
    def steps_per_epoch(self) -> int:
        """Global steps in a pass over the data; the last one may be smaller."""
        return int(self._layout.steps.sum()) + math.ceil(len(self._layout.over) / self.batch_size)

    def _bins_of(self, epoch: int, index: int) -> list[Bin]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self._windows))
        ends = np.cumsum(self._layout.steps[order])
        place = int(np.searchsorted(ends, index, side="right"))
        if place == len(order):
            left = self._layout.over
            start = (index - int(ends[-1])) * self.batch_size
            shuffled = self._rng(epoch, place).permutation(len(left))
            return [left[at] for at in shuffled[start : start + self.batch_size]]
        start = (index - int(ends[place] - self._layout.steps[order[place]])) * self.batch_size
        return self._shuffled(epoch, int(order[place]))[start : start + self.batch_size]

    def _shuffled(self, epoch: int, window: int) -> list[Bin]:
        """A window's bins in the epoch's order, without those that are over."""
        if self._arranged is None or self._arranged[0] != (epoch, window):
            bins = self._bins(window)[: int(self._layout.steps[window]) * self.batch_size]
            rng = self._rng(epoch, window)
            bins = [bins[at] for at in rng.permutation(len(bins))]
            if self.group_by_length and self.capacity is None:
                bins = [[row] for row in self._grouped([row for bin_ in bins for row in bin_], rng)]
            self._arranged = ((epoch, window), bins)
        return self._arranged[1]

    def _rng(self, epoch: int, window: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, window])

    def _bins(self, window: int) -> list[Bin]:
        """A window's rows, or bins of them, in an order that follows from the seed."""
        starts = np.concatenate([[0], np.cumsum(self.shard_sizes)])
        rows = np.concatenate(
            [np.arange(starts[shard], starts[shard + 1]) for shard in self._windows[window]]
        )
        shuffled = np.random.default_rng([self.seed, window]).permutation(rows).tolist()
        if self.capacity is None:
            return [[row] for row in shuffled]
        return pack(shuffled, self.lengths, self.capacity)

    @cached_property
    def _windows(self) -> list[list[int]]:
        shards = np.random.default_rng(self.seed).permutation(len(self.shard_sizes)).tolist()
        return [shards[at : at + self.window] for at in range(0, len(shards), self.window)]

    @cached_property
    def _layout(self) -> _Layout:
        steps, over = [], []
        for window in range(len(self._windows)):
            bins = self._bins(window)
            steps.append(len(bins) // self.batch_size)
            over += bins[steps[-1] * self.batch_size :]
        return _Layout(np.array(steps), over)


@dataclass(frozen=True)
class _Layout:
    """Whole steps that each window gives, and the bins that are over."""

    steps: np.ndarray
    over: list[Bin]
